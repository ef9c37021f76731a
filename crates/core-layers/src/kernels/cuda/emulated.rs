//! A GPU for tests, of this crate and, by the feature `emulator`, of those above it: the text of the kernels compiled as C++ beside `csrc/cuda/emulator.h`, its threads run as fibres.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use libloading::os::unix::Library;
use tch::Device;

use super::{Arg, Element, Gpu, Shape, Source, addresses};
use crate::{
    checkpoint::{hex, sha256},
    device::DeviceChoice,
    kernels::ffi::TorchError,
};

const EMULATOR: &str = include_str!("../../../csrc/cuda/emulator.h");

/// In which order the fibres of a block take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their numbers.
    Forward,
    /// The last first.
    Reversed,
    /// In an order that differs from turn to turn.
    Shuffled,
}

#[derive(Debug)]
struct Emulator(Order);

static EMULATORS: [Emulator; 3] =
    [Emulator(Order::Forward), Emulator(Order::Reversed), Emulator(Order::Shuffled)];

thread_local! {
    static CURRENT: Cell<Option<Order>> = const { Cell::new(None) };
}

/// The emulator, within [`on_every_gpu`].
pub(super) fn current() -> Option<&'static dyn Gpu> {
    CURRENT.get().map(|order| &EMULATORS[order as usize] as &dyn Gpu)
}

/// Runs `test` where kernels run: on the CPU under the emulator, once an order of fibres, and on the first GPU if there is
/// one; nowhere if `CHAINRULE_KERNELS` is off. It is told the device for its tensors, and a name for its messages.
pub fn on_every_gpu(test: impl Fn(Device, &str)) {
    if !crate::kernels::are_on() {
        return;
    }
    for order in [Order::Forward, Order::Reversed, Order::Shuffled] {
        emulated(order, || test(Device::Cpu, &format!("emulated, {order:?}")));
    }
    if let Ok(device) = DeviceChoice::Cuda(0).open() {
        test(device, "cuda");
    }
}

/// Rounds parameters to what `kind` holds, so that an engine of that kind has the same weights.
pub fn round(vs: &tch::nn::VarStore, kind: tch::Kind) {
    for mut tensor in crate::optim::parameters(vs).into_values() {
        let rounded = tensor.to_kind(kind).to_kind(tch::Kind::Float);
        tch::no_grad(|| tensor.copy_(&rounded));
    }
}

/// Runs `of` with the CPU taken for a GPU.
pub fn emulated<R>(order: Order, of: impl FnOnce() -> R) -> R {
    struct Restore(Option<Order>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(Some(order)));
    of()
}

impl Gpu for Emulator {
    unsafe fn launch(
        &self,
        source: &Source,
        element: Element,
        name: &str,
        shape: Shape,
        arguments: &[Arg<'_>],
    ) -> Result<(), TorchError> {
        type Emulate = unsafe extern "C" fn(
            *const c_char,
            *const u32,
            *const u32,
            u32,
            *mut *mut c_void,
            c_int,
        ) -> *const c_char;
        static LIBRARIES: Mutex<Option<HashMap<(&'static str, Element), Library>>> =
            Mutex::new(None);
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        let libraries = libraries.get_or_insert_default();
        let library = libraries.entry((source.name, element)).or_insert_with(|| {
            let path = compiled(source, element);
            // SAFETY: a library that `compiled` made of our own text.
            unsafe { Library::new(&path) }
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        let entry = CString::new(name).map_err(|error| TorchError(error.to_string()))?;
        let mut bits: Vec<u64> = arguments.iter().map(|it| it.bits()).collect();
        let mut addresses = addresses(&mut bits);
        // SAFETY: the function has this type in emulator.h; the lock lets one thread in at a time, as its statics want;
        // arguments fit the kernel as the caller promises; the message is copied before the next call.
        unsafe {
            let emulate = library.get::<Emulate>(b"cl_emulate").expect("emulator.h defines it");
            let message = emulate(
                entry.as_ptr(),
                shape.grid.as_ptr(),
                shape.block.as_ptr(),
                shape.shared,
                addresses.as_mut_ptr(),
                self.0 as c_int,
            );
            if message.is_null() {
                return Ok(());
            }
            Err(TorchError(format!("{name}: {}", CStr::from_ptr(message).to_string_lossy())))
        }
    }
}

/// The library of a source, compiled by the C++ compiler that the crate was built with; kept beside what cargo builds.
fn compiled(source: &Source, element: Element) -> PathBuf {
    let text = [EMULATOR, &source.whole()].concat();
    let hash = hex(&sha256(text.as_bytes())[..8]);
    let folder = Path::new(env!("OUT_DIR")).join("emulated");
    let stem = format!("{}-{element}-{hash}", source.name);
    let made = folder.join(&stem).with_extension("so");
    if made.exists() {
        return made;
    }
    fs::create_dir_all(&folder).expect("cargo's folder can be written");
    let [text_path, unfinished] =
        ["cpp", "unfinished"].map(|it| folder.join(format!("{stem}-{}.{it}", std::process::id())));
    fs::write(&text_path, text).expect("cargo's folder can be written");
    let output = Command::new("c++")
        // without -fno-gnu-unique all libraries of a process would share one table of kernels
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-fno-strict-aliasing", "-fno-gnu-unique"])
        .arg("-o")
        .args([&unfinished, &text_path])
        .arg(format!("-DCL_KIND={}", element.number()))
        .output()
        .expect("a C++ compiler, as the crate was built with");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}.cu under the emulator:\n{message}", source.name);
    fs::rename(&unfinished, &made).expect("it was just made");
    fs::remove_file(&text_path).expect("it was just written");
    made
}
