// Greedy generation by llama.cpp, for comparison with the reference layers: token ids in, token ids out.
//
//   greedy-tokens MODEL.gguf COUNT ID...     prints COUNT ids, each the most likely after all before it
//
// Keys and values are kept in float32, so that only the order of sums differs from a float32 reference.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

int main(int argc, char ** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: greedy-tokens MODEL.gguf COUNT ID...\n");
        return 2;
    }
    const int count = std::atoi(argv[2]);
    std::vector<llama_token> prompt;
    for (int i = 3; i < argc; i++) {
        prompt.push_back(std::atoi(argv[i]));
    }

    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == nullptr) {
        std::fprintf(stderr, "greedy-tokens: cannot load %s\n", argv[1]);
        return 1;
    }
    llama_context_params parameters = llama_context_default_params();
    parameters.n_ctx = prompt.size() + count;
    parameters.type_k = GGML_TYPE_F32;
    parameters.type_v = GGML_TYPE_F32;
    parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    parameters.n_threads = 1;
    parameters.n_threads_batch = 1;
    llama_context * context = llama_init_from_model(model, parameters);
    if (context == nullptr) {
        std::fprintf(stderr, "greedy-tokens: cannot make a context\n");
        return 1;
    }

    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::vector<llama_token> next = prompt;
    for (int i = 0; i < count; i++) {
        if (llama_decode(context, llama_batch_get_one(next.data(), next.size())) != 0) {
            std::fprintf(stderr, "greedy-tokens: decoding failed\n");
            return 1;
        }
        const float * logits = llama_get_logits_ith(context, -1);
        next.assign(1, std::max_element(logits, logits + vocabulary) - logits);
        std::printf("%d%s", next[0], i + 1 < count ? " " : "\n");
    }
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
