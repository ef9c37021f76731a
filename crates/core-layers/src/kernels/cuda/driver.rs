//! A real GPU: modules are loaded once a device, and launched in libtorch's context on libtorch's current stream.

use std::{
    collections::HashMap,
    ffi::{CString, c_int, c_void},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

use cudarc::driver::{
    result::{DriverError, ctx, device, function, init, launch_kernel, module, primary_ctx},
    sys,
};

use super::{Arg, Element, GATE, Gpu, MOST_SHARED, Shape, Source, addresses, compile};
use crate::kernels::ffi::{TorchError, check};

unsafe extern "C" {
    fn cl_current_stream(index: c_int, stream: *mut *mut c_void) -> c_int;
}

/// GPUs that a process may ask for.
const MOST_DEVICES: usize = 64;

/// Shared memory that a block may have without asking.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// One device and what was compiled for it.
#[derive(Debug)]
struct Cuda {
    index: usize,
    context: Handle<sys::CUctx_st>,
    sm: String,
    modules: Mutex<HashMap<(&'static str, Element), Handle<sys::CUmod_st>>>,
}

/// A handle of the driver, which any thread may use.
#[derive(Debug)]
struct Handle<T>(*mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: CUDA's driver is thread-safe, and its handles are names, not memory of ours.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

/// The device with that number, if kernels can run on it; if not, why is said once.
pub(super) fn of(index: usize) -> Option<&'static dyn Gpu> {
    static DEVICES: [OnceLock<Option<Cuda>>; MOST_DEVICES] =
        [const { OnceLock::new() }; MOST_DEVICES];
    let open = || match Cuda::open(index) {
        Ok(found) => Some(found),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "said once; the work goes on without kernels")]
            {
                eprintln!("cuda:{index}: {error}; libtorch's own operations are used instead");
            }
            None
        }
    };
    DEVICES.get(index)?.get_or_init(open).as_ref().map(|it| it as &dyn Gpu)
}

impl Cuda {
    fn open(index: usize) -> Result<Self, TorchError> {
        // SAFETY: it only looks for the library; without it, cudarc's functions would panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(TorchError("CUDA's driver is not there".into()));
        }
        compile::ensure_there()?;
        let failed = |error| refused("the driver", error);
        let number = |which| {
            // SAFETY: a device that `device::get` gave.
            device::get(index as c_int).and_then(|it| unsafe { device::get_attribute(it, which) })
        };
        let open = || {
            init()?;
            let major =
                number(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor =
                number(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            // SAFETY: as above; the context is libtorch's, and kept as long as the process.
            let context =
                device::get(index as c_int).and_then(|it| unsafe { primary_ctx::retain(it) })?;
            let shared =
                sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
            Ok((context, format!("sm_{major}{minor}"), number(shared)?))
        };
        let (context, sm, shared) = open().map_err(failed)?;
        if (shared as usize) < MOST_SHARED {
            return Err(TorchError(format!(
                "a block has {shared} bytes of shared memory, but kernels need {MOST_SHARED}"
            )));
        }
        let gpu = Self { index, context: Handle(context), sm, modules: Mutex::default() };
        // whether NVRTC knows this generation is seen now, rather than inside a layer
        gpu.in_context(|| gpu.module(&GATE, Element::F32)).map_err(failed)??;
        Ok(gpu)
    }

    /// Runs `of` in this device's context; the thread's own comes back behind it.
    fn in_context<R>(&self, of: impl FnOnce() -> R) -> Result<R, DriverError> {
        let before = ctx::get_current()?;
        // SAFETY: contexts of devices, which live as long as the process.
        unsafe {
            ctx::set_current(self.context.0)?;
            let made = of();
            if let Some(before) = before {
                ctx::set_current(before)?;
            }
            Ok(made)
        }
    }

    /// The loaded code of a source; the context is current.
    fn module(
        &self,
        source: &Source,
        element: Element,
    ) -> Result<Handle<sys::CUmod_st>, TorchError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&found) = modules.get(&(source.name, element)) {
            return Ok(found);
        }
        let code = compile::code(source, element, &self.sm)?;
        // SAFETY: a whole ELF image, which the driver copies.
        let loaded = unsafe { module::load_data(code.as_ptr().cast()) };
        let loaded = Handle(loaded.map_err(|error| refused(source.name, error))?);
        modules.insert((source.name, element), loaded);
        Ok(loaded)
    }
}

/// One line of what the driver said.
fn refused(what: &str, error: DriverError) -> TorchError {
    let name =
        error.error_name().map_or_else(|_| "?".into(), |it| it.to_string_lossy().into_owned());
    TorchError(format!("{what}: CUDA: {name}"))
}

impl Gpu for Cuda {
    unsafe fn launch(
        &self,
        source: &Source,
        element: Element,
        name: &str,
        shape: Shape,
        arguments: &[Arg<'_>],
    ) -> Result<(), TorchError> {
        let fail = |error| refused(name, error);
        let mut stream = ptr::null_mut();
        let entry = CString::new(name).map_err(|error| TorchError(error.to_string()))?;
        let mut bits: Vec<u64> = arguments.iter().map(|it| it.bits()).collect();
        let mut addresses = addresses(&mut bits);
        let [x, y, z] = shape.grid;
        let [i, j, k] = shape.block;
        // SAFETY: context, module and stream are of this device and live; each argument is as wide as the kernel's
        // declaration says, as the caller promises, and `bits` outlives the call, which copies them.
        let launch = || unsafe {
            let loaded = self.module(source, element)?;
            let function = module::get_function(loaded.0, entry).map_err(fail)?;
            if shape.shared > SHARED_WITHOUT_ASKING {
                let most =
                    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function::set_function_attribute(function, most, shape.shared as i32)
                    .map_err(fail)?;
            }
            check(cl_current_stream(self.index as c_int, &raw mut stream))?;
            launch_kernel(
                function,
                (x, y, z),
                (i, j, k),
                shape.shared,
                stream.cast(),
                &mut addresses,
            )
            .map_err(fail)
        };
        self.in_context(launch).map_err(fail)?
    }
}
