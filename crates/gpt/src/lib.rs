//! Language models: decoders that read text one token at a time.
//!
//! `p(x) = prod_t p(x_t | start, x_<t)` over the tokens of a text, by a stack of causal self-attention and feed-forward
//! layers: GPT-2, GPT-3 and LLaMA are configurations of one [`model`].

pub mod chat;
pub mod cli;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod formats;
pub mod model;
pub mod sample;
pub mod text;
pub mod train;
pub mod trained;
pub mod verify;
pub mod weights;
