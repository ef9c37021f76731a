//! Lists of taps without an allocation, where they are few.

/// Taps whose list lies on the stack.
const FEW: usize = 8;

/// Calls `work` with `count` taps, those that `tap` gives; `filler` is any.
pub(super) fn with_taps<T: Copy>(
    count: usize,
    filler: T,
    tap: impl Fn(usize) -> T,
    work: impl FnOnce(&[T]),
) {
    if count > FEW {
        return work(&(0..count).map(tap).collect::<Vec<_>>());
    }
    let mut few = [filler; FEW];
    for (index, to) in few[..count].iter_mut().enumerate() {
        *to = tap(index);
    }
    work(&few[..count]);
}
