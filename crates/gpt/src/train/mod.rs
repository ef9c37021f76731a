//! The training loop: maximum likelihood by `AdamW`, written out.
