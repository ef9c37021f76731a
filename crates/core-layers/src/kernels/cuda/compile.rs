//! NVRTC: a kernel's text to machine code for one generation of GPUs. It needs neither a GPU nor a driver.

use std::{ffi::CString, path::Path, sync::OnceLock};

use cudarc::nvrtc::{result, sys};

use super::{Element, Source, cache};
use crate::{device, kernels::ffi::TorchError};

/// Code of `source` for T = `element` and the architecture `sm`, for example `sm_90`; from the disk where it was compiled
/// before.
///
/// # Errors
/// When NVRTC is missing or refuses; its log stands in the error.
pub(super) fn code(source: &Source, element: Element, sm: &str) -> Result<Vec<u8>, TorchError> {
    let version = load().as_ref().map_err(|error| TorchError(error.clone()))?;
    let (text, options) = (source.whole(), options(element, sm));
    let parts = [text.as_str(), &options.join(" "), version];
    let name = cache::name(&format!("{}-{element}-{sm}", source.name), &parts);
    cache::get_or_make(cache::folder().as_deref(), &name, || compile(source.name, &text, &options))
}

/// # Errors
/// One line, where NVRTC is missing.
pub(super) fn ensure_there() -> Result<(), TorchError> {
    load().as_ref().map(|_| ()).map_err(|error| TorchError(error.clone()))
}

fn options(element: Element, sm: &str) -> Vec<String> {
    let kind = format!("--define-macro=CL_KIND={}", element.number());
    vec![format!("--gpu-architecture={sm}"), "--std=c++17".into(), kind]
}

fn compile(name: &str, text: &str, options: &[String]) -> Result<Vec<u8>, TorchError> {
    let fail = |what: &dyn std::fmt::Debug| TorchError(format!("{name}.cu: NVRTC: {what:?}"));
    let text = CString::new(text).map_err(|error| fail(&error))?;
    let program = result::create_program(&text, None).map_err(|error| fail(&error))?;
    // SAFETY: a program that was just created and is destroyed once, at the end.
    unsafe {
        let compiled = result::compile_program(program, options);
        let code = match compiled {
            Ok(()) => cubin(program).map_err(|error| fail(&error)),
            Err(error) => Err(match result::get_program_log(program) {
                Ok(log) => {
                    let log: Vec<u8> = log.iter().map(|&it| it.cast_unsigned()).collect();
                    let log = String::from_utf8_lossy(&log).into_owned();
                    TorchError(format!("{name}.cu: {}", log.trim_matches(['\0', '\n'])))
                }
                Err(_) => fail(&error),
            }),
        };
        let _ = result::destroy_program(program);
        code
    }
}

/// # Safety
/// `program` was compiled for an architecture, not to PTX.
unsafe fn cubin(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: `size` outlives the first call, and the second writes as many bytes as the first said.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
        Ok(code)
    }
}

/// Loads NVRTC once: where libtorch's own CUDA libraries lie, or where the system has it. Its version, or one line.
fn load() -> &'static Result<String, String> {
    static LOADED: OnceLock<Result<String, String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        // Beside libtorch is the one of its build; later searches by bare name find what is loaded. NVRTC looks for its
        // second library so, and would not find it there.
        let folder = device::loaded_from("libtorch_cpu.so")
            .and_then(|path| Some(Path::new(&path).parent()?.join("../../nvidia/cu13/lib")));
        let files =
            folder.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
        let mut paths: Vec<_> = files.map(|file| file.path()).collect();
        paths.sort(); // the builtins come first
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if ["libnvrtc-builtins.so.13", "libnvrtc.so.13"].iter().any(|it| name.starts_with(it)) {
                device::open_for_good(&path.to_string_lossy())?;
            }
        }
        // SAFETY: it only looks for the library; without it, cudarc's functions would panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "NVRTC is not there; it comes with a CUDA libtorch, or type: scripts/setup --nvrtc"
                    .into(),
            );
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both numbers outlive the call.
        let status = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
        status.result().map_err(|error| format!("NVRTC does not answer: {error:?}"))?;
        if major != 13 {
            return Err(format!("NVRTC {major}.{minor} is there, but 13 is needed"));
        }
        Ok(format!("NVRTC {major}.{minor}"))
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::kernels::cuda::{GATE, SOURCES};

    /// Whether NVRTC is at hand; where it is not, that is said, since nothing is shown then.
    fn is_there() -> bool {
        match load() {
            Ok(version) => {
                println!("{version}");
                true
            }
            Err(error) => {
                println!("SKIPPED: {error}");
                false
            }
        }
    }

    #[test]
    fn every_kernel_compiles_for_three_generations_and_every_type() {
        if !is_there() {
            return;
        }
        let ensure = |(sm, element): (&str, Element)| {
            for source in SOURCES {
                let compiled = code(&source, element, sm);
                let code = compiled.unwrap_or_else(|error| panic!("{sm}, {element}: {error}"));
                assert_eq!(&code[..4], b"\x7fELF", "{} for {sm}", source.name);
            }
        };
        thread::scope(|scope| {
            for sm in ["sm_80", "sm_90", "sm_100"] {
                for element in Element::ALL {
                    scope.spawn(move || ensure((sm, element)));
                }
            }
        });
    }

    #[test]
    fn what_does_not_compile_says_where() {
        if !is_there() {
            return;
        }
        let broken = GATE.whole() + "\nCL_KERNEL broken() { no_such_thing(); }";
        let error =
            compile("gate", &broken, &options(Element::F32, "sm_90")).unwrap_err().to_string();
        assert!(error.contains("no_such_thing") && error.contains("gate.cu"), "{error}");
    }
}
