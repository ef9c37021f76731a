//! WaveNet: raw sound, `p(x) = prod_t p(x_t | x_<t, speaker, features)`, one sample at a time
//! (van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, <https://arxiv.org/abs/1609.03499>).

pub mod data;
