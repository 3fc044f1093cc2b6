# SPDX-License-Identifier: Apache-2.0
"""A byte-level BPE vocabulary learnt from the text itself, and token ids as a padded array."""
import tokenizers

PAD = 0
TRAINED_ON = 4 << 20  # characters of a long text: more would teach it little and take long


def train(text, vocabulary):
    """The trained tokenizer as JSON, for `load` in any process."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["[PAD]"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())  # every byte: nothing is unknown
    tokenizer.train_from_iterator(text[:TRAINED_ON].splitlines(keepends=True), trainer)
    return tokenizer.to_str()


def load(trained, seq):
    tokenizer = tokenizers.Tokenizer.from_str(trained)
    tokenizer.enable_truncation(seq)
    return tokenizer


def fill(encodings, ids, lengths):
    """Writes encodings into `ids`, int32 [rows, seq], padded at the end, and each one's count into `lengths`."""
    ids[:] = PAD
    for row, encoding in enumerate(encodings):
        tokens = encoding.ids
        ids[row, :len(tokens)] = tokens
        lengths[row] = len(tokens)
