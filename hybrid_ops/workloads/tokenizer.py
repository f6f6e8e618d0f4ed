"""A tokenizer for models that have none: one token a word.

Models with seeded weights come without a tokenizer, and a server needs one. Words map to token ids one to one, so a
text of so many words is a prompt of so many tokens, at every vocabulary size.
"""

from __future__ import annotations

from pathlib import Path

from hybrid_ops.workloads.conversations import SHIPPED_CONVERSATIONS, load_conversations

SPECIAL_TOKENS = ("<s>", "</s>", "<unk>")
"""Beginning, end and unknown word, in this order the first token ids."""
WORD_TOKENIZER_SIZE = 32768
"""Tokens of the word tokenizer where no model asks for another number."""
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def write_word_tokenizer(folder: Path, vocabulary_size: int) -> None:
    """Write a word tokenizer with exactly `vocabulary_size` tokens into `folder`, as `AutoTokenizer` loads it.

    The vocabulary is the special tokens, then as many words of the shipped conversations as fit, then made-up words.
    Raises ValueError where not even the special tokens fit.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if vocabulary_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"a vocabulary needs more than {len(SPECIAL_TOKENS)} tokens, not {vocabulary_size}")
    words = (*SPECIAL_TOKENS, *_conversation_words())[:vocabulary_size]
    filler = (f"w{index}" for index in range(len(words), vocabulary_size))
    vocabulary = {word: index for index, word in enumerate((*words, *filler))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a word, not a password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL_TOKENS[0],
        eos_token=SPECIAL_TOKENS[1],
        unk_token=SPECIAL_TOKENS[2],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(str(folder))


def _conversation_words() -> list[str]:
    """The distinct words of the shipped conversations, in the order in which they first appear."""
    conversations = load_conversations(SHIPPED_CONVERSATIONS).conversations
    text = (turn["value"] for conversation in conversations for turn in conversation["conversations"])
    return list(dict.fromkeys(word for turn in text for word in turn.split()))
