//! Convolutions that never look at what they predict.
