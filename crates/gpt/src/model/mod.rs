//! The decoder in libtorch operations.
