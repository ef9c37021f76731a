//! Text as files of tokens, and batches of them.
