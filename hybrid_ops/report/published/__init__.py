"""What others have published: the documents as data, their layouts, our accounting, a run beside them."""
