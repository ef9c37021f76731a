//! Threads that share out units of work, and do not wait for one that has lost its core.
//!
//! The caller works too. Units are claimed one by one from a counter, so a helper that is late, or was put to sleep by
//! the system, only misses them: a job is over when its units are, not when all threads have come by. Only a helper that
//! loses its core in the middle of a unit makes the caller wait; the caller then sleeps, which frees a core for that
//! helper, and works alone for some time after.

use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    marker::PhantomData,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Looks at a counter before a waiting thread gives its core away: some 30 microseconds.
const SPINS: u32 = 1000;
/// Turns of giving it away before a helper without work sleeps until it is called.
const YIELDS: u32 = 200;
/// What the caller waits for others' last units, beside as long as its own took: after that a helper has lost its core.
const PATIENCE: Duration = Duration::from_micros(100);
/// How much longer than it waited the caller then works alone: beside a core that is busy all the time it loses a tenth to one
/// that never shares, beside one that is busy now and then it gains most of what two give.
const ALONE: u32 = 3;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// A value on cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
struct Alone<T>(T);

struct Shared {
    /// Units of the job in the upper half, the next to be claimed in the lower.
    claims: Alone<AtomicU64>,
    /// Units that are done.
    done: Alone<AtomicUsize>,
    job: UnsafeCell<Option<*const Work<'static>>>,
    asleep: Alone<AtomicUsize>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only while no claim is valid, and read only after a valid claim, which happens after the write
// (release and acquire of `claims`). What it points to may be called by several threads, and outlives the job.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    /// A unit that nobody else gets, if any is left.
    fn claim(&self) -> Option<usize> {
        let unit = |claims: u64| {
            let (units, next) = (claims >> 32, claims & u64::from(u32::MAX));
            (next < units).then_some(next as usize)
        };
        unit(self.claims.0.load(Ordering::Acquire))?;
        unit(self.claims.0.fetch_add(1, Ordering::AcqRel))
    }

    /// Does units as long as there are any; whether there was one.
    fn work(&self) -> bool {
        let mut count = 0;
        while let Some(unit) = self.claim() {
            // SAFETY: the claim is valid, so the job stays until this unit is counted.
            let work = unsafe { (*self.job.get()).map(|it| &*it) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.map(|work| work(unit)))) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            count += 1;
        }
        if count > 0 {
            self.done.0.fetch_add(count, Ordering::Release);
        }
        count > 0
    }

    fn help(&self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.work() {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < SPINS {
                spin_loop();
            } else if idle < SPINS + YIELDS {
                thread::yield_now();
            } else {
                self.asleep.0.fetch_add(1, Ordering::SeqCst);
                let claims = self.claims.0.load(Ordering::SeqCst);
                let nothing = claims >> 32 <= claims & u64::from(u32::MAX);
                if nothing && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.asleep.0.fetch_sub(1, Ordering::SeqCst);
                idle = 0;
            }
        }
    }
}

/// The calling thread and its helpers.
pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    alone_until: Option<Instant>,
}

impl Pool {
    /// A pool of `threads`, the caller's included; fewer where the system gives no more.
    pub(super) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            claims: Alone(AtomicU64::new(0)),
            done: Alone(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            asleep: Alone(AtomicUsize::new(0)),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let helper = |_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("decode".into()).spawn(move || shared.help()).ok()
        };
        let helpers = (1..threads).map_while(helper).collect();
        Self { shared, helpers, alone_until: None }
    }

    /// Threads, the caller's included.
    pub(super) fn threads(&self) -> usize {
        1 + self.helpers.len()
    }

    /// Calls `work` once for each unit below `units`, on all threads.
    pub(super) fn run(&mut self, units: usize, work: &Work<'_>) {
        if units <= 1 || self.is_alone() || u32::try_from(units).is_err() {
            (0..units).for_each(work);
            return;
        }
        let (shared, start) = (&*self.shared, Instant::now());
        // SAFETY: all units of the last job are done, so no claim is valid and nobody looks at `job`; the longer lifetime is
        // not made use of, since this function returns only when all units of this job are done.
        unsafe {
            let longer = std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work);
            *shared.job.get() = Some(longer);
        }
        shared.done.0.store(0, Ordering::Relaxed);
        shared.claims.0.store((units as u64) << 32, Ordering::SeqCst);
        if shared.asleep.0.load(Ordering::SeqCst) > 0 {
            self.helpers.iter().for_each(|it| it.thread().unpark());
        }
        shared.work();
        self.wait(units, start);
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn is_alone(&mut self) -> bool {
        if self.alone_until.is_some_and(|until| Instant::now() >= until) {
            self.alone_until = None;
        }
        self.helpers.is_empty() || self.alone_until.is_some()
    }

    /// Waits until all units of a job are done that started at `start`.
    fn wait(&mut self, units: usize, start: Instant) {
        let is_done = |shared: &Shared| shared.done.0.load(Ordering::Acquire) == units;
        let mut spins = 0;
        let mut until = None;
        while !is_done(&self.shared) {
            spin_loop();
            spins += 1;
            if spins % SPINS == 0 {
                let now = Instant::now();
                if now > *until.get_or_insert(now + (now - start) + PATIENCE) {
                    break;
                }
            }
        }
        if is_done(&self.shared) {
            return;
        }
        let start = Instant::now();
        while !is_done(&self.shared) {
            thread::sleep(Duration::from_micros(50));
        }
        self.alone_until = Some(Instant::now() + ALONE * start.elapsed());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            let _ = helper.join(); // its panics were caught
        }
    }
}

/// A slice of which units of work write different parts.
pub(super) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice, of which each thread gets parts that no other has.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// One part.
    ///
    /// # Safety
    /// While it lives, nobody else has a part that overlaps it.
    ///
    /// # Panics
    /// If the slice does not reach so far.
    #[expect(clippy::mut_from_ref, reason = "by the contract no part is handed out twice")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of {}", self.len);
        // SAFETY: it lies within the slice, and by this function's contract nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads);
            for units in [0, 1, 2, 3, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
                pool.run(units, &|unit| {
                    counts[unit].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|it| it.load(Ordering::Relaxed) == 1), "{units}");
            }
        }
    }

    #[test]
    fn helpers_that_slept_are_called_again() {
        let mut pool = Pool::new(2);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(10, &|unit| {
                sum.fetch_add(unit, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn a_panic_of_any_unit_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|unit| assert_ne!(unit, 5, "not this one"));
        }));
        assert!(failed.is_err());
        pool.run(8, &|_| {});
    }

    #[test]
    fn a_caller_that_had_to_wait_works_alone_for_a_while() {
        let mut pool = Pool::new(2);
        let caller = thread::current().id();
        let both = std::sync::Barrier::new(2); // so that each thread has one of the two units
        pool.run(2, &|_| {
            both.wait();
            if thread::current().id() != caller {
                thread::sleep(Duration::from_millis(30));
            }
        });
        let others = AtomicUsize::new(0);
        pool.run(100, &|_| {
            others.fetch_add(usize::from(thread::current().id() != caller), Ordering::Relaxed);
        });
        assert_eq!(others.into_inner(), 0);
    }
}
