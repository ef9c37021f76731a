//! What every autoregressive model of Chainrule shares.
//!
//! A model is one sentence, `p(x) = prod_i p(x_i | x_<i, context)`, and two traits say it:
//! [`Autoregressive`] for all conditionals in one pass, [`Stepper`] for one position at a time. Over them, once:
//! [`likelihood`], [`sampling`], [`codec`] and [`audit`]; one symbol is a [`categorical`] or, of many levels, a mixture of [`logistics`]. Around them: [`conv`] and the other layers,
//! [`kernels`] (native code; the exact engine), [`optim`], [`training`], [`checkpoint`], [`run`], [`dataset`], [`device`], [`cli`].

pub mod attention;
pub mod audit;
pub mod autocast;
pub mod autoregressive;
pub mod bayes;
pub mod categorical;
pub mod checkpoint;
pub mod cli;
pub mod codec;
pub mod conv;
pub mod cross_entropy;
pub mod dataset;
pub mod device;
pub mod encoded;
pub mod error;
pub mod feed_forward;
pub mod fetched;
pub mod kernels;
pub mod likelihood;
pub mod logistics;
pub mod norm;
pub mod npy;
pub mod optim;
pub mod overrides;
pub mod plain;
pub mod plot;
pub mod quantise;
pub mod random;
pub mod rope;
pub mod run;
pub mod sampling;
pub mod schedule;
#[cfg(test)]
mod testing;
pub mod training;

pub use autoregressive::{
    Autoregressive, Conditional, Conditionals, Context, Engine, Layout, Stepper,
};
pub use error::ConfigError;
