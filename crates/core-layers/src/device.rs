//! Where tensors live, and how many threads compute: one binary for machines with and without CUDA.

use std::{
    collections::BTreeSet, fmt, fs, num::NonZero, path::Path, str::FromStr, sync::OnceLock, thread,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::{ConfigError, kernels::ffi};

/// Exists where the NVIDIA driver is loaded.
const DRIVER: &str = "/dev/nvidiactl";

/// The device that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The CPU.
    #[default]
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
    /// The first CUDA device where there is one, the CPU otherwise.
    Auto,
}

/// A device that was asked for and is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device is {choice}, but {reason}")]
pub struct DeviceError {
    choice: DeviceChoice,
    reason: String,
}

impl DeviceChoice {
    /// The device itself; CUDA is loaded when it is asked for, and before anything asks libtorch about it.
    ///
    /// # Errors
    /// When a CUDA device was asked for by name and is not there.
    pub fn open(self) -> Result<Device, DeviceError> {
        let cuda = |number| count_cuda(self, number).map(|()| Device::Cuda(number));
        match self {
            Self::Cuda(number) => cuda(number),
            Self::Auto if Path::new(DRIVER).exists() => Ok(cuda(0).unwrap_or(Device::Cpu)),
            Self::Cpu | Self::Auto => Ok(Device::Cpu),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let numbered = || text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda);
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "auto" => Ok(Self::Auto),
            _ => numbered()
                .ok_or_else(|| ConfigError::new("device", text, "cpu, cuda, cuda:N or auto")),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// Loads CUDA and refuses a device number that it does not have.
fn count_cuda(choice: DeviceChoice, number: usize) -> Result<(), DeviceError> {
    let fail = |reason: String| DeviceError { choice, reason };
    load_cuda().clone().map_err(fail)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where everyone else is sent to; CUDA is loaded"
    )]
    let available = tch::Cuda::is_available();
    if !available {
        return Err(fail("no NVIDIA driver answers".into()));
    }
    let count = tch::Cuda::device_count();
    if number as i64 >= count {
        return Err(fail(format!("this machine has {count} CUDA device(s), numbered from 0")));
    }
    Ok(())
}

/// Loads `libtorch_cuda.so` once, for as long as the process lives.
///
/// libtorch asks once whether it is there and keeps the answer, so this comes before any question about CUDA. Linking it
/// would not do: the linker drops a library that nothing names.
fn load_cuda() -> &'static Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        // The library must be of the build that is loaded already, so it is looked for beside it first.
        let beside = loaded_from("libtorch_cpu.so")
            .map(|path| path.replace("libtorch_cpu.so", "libtorch_cuda.so"));
        let path = beside.filter(|path| Path::new(path).exists());
        let path = path.unwrap_or_else(|| "libtorch_cuda.so".into());
        open_for_good(&path).map_err(|error| format!("this libtorch has no CUDA part: {error}"))
    })
}

/// Opens a library of libtorch or CUDA for as long as the process lives, for all who look for its symbols.
pub(crate) fn open_for_good(path: &str) -> Result<(), String> {
    #[expect(unsafe_code, reason = "dlopen")]
    // SAFETY: its initialisers only register kernels or do nothing, and it is never closed.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| innermost(&error))
}

/// What the loader said, on one line.
fn innermost(error: &dyn std::error::Error) -> String {
    let message = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    message.lines().next().unwrap_or("unknown reason").to_owned()
}

/// The path that a library of this process was loaded from.
pub(crate) fn loaded_from(name: &str) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    paths.find(|path| path.ends_with(&format!("/{name}"))).map(str::to_owned)
}

/// Cores that compute without sharing: two hardware threads of one core count once. At least 1, and no more than
/// this process may use.
pub fn physical_cores() -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    let cores: BTreeSet<String> = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|cpu| fs::read_to_string(cpu.path().join("topology/thread_siblings_list")).ok())
        .collect();
    if cores.is_empty() { allowed } else { cores.len().min(allowed) }
}

/// Lets libtorch compute with `count` threads; with another number a sum may differ in its last bits.
///
/// # Errors
/// [`ConfigError::OutOfRange`] when it is 0 or beyond what libtorch can count.
pub fn set_threads(count: usize) -> Result<(), ConfigError> {
    const MOST: usize = 1024;
    ConfigError::ensure((1..=MOST).contains(&count), "threads", count, "from 1 to 1024")?;
    tch::set_num_threads(count as i32);
    Ok(())
}

/// Lets the allocator keep what is freed until the process ends: a training step asks for the same memory again, and
/// fresh pages cost a tenth of it. Only glibc's allocator listens.
pub fn keep_memory() {
    ffi::keep_memory();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_back_what_they_print() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("auto", DeviceChoice::Auto),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
            assert_eq!(serde_json::to_string(&choice).unwrap(), format!("\"{text}\""));
            assert_eq!(
                serde_json::from_str::<DeviceChoice>(&format!("\"{text}\"")).unwrap(),
                choice
            );
        }
        assert_eq!(
            "gpu".parse::<DeviceChoice>().unwrap_err().to_string(),
            "device is gpu, but must be cpu, cuda, cuda:N or auto"
        );
        assert!("cuda:-1".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn a_device_is_there_or_its_absence_is_one_line() {
        assert_eq!(DeviceChoice::Cpu.open(), Ok(Device::Cpu));
        assert!(DeviceChoice::Auto.open().is_ok());
        let message = DeviceChoice::Cuda(999).open().unwrap_err().to_string();
        assert!(
            message.starts_with("device is cuda:999, but ") && message.lines().count() == 1,
            "{message}"
        );
    }

    #[test]
    fn the_library_of_this_process_is_found() {
        assert!(loaded_from("libtorch_cpu.so").is_some_and(|path| Path::new(&path).is_file()));
        assert_eq!(loaded_from("libnothing.so"), None);
    }

    #[test]
    fn threads_are_counted_and_set() {
        let cores = physical_cores();
        assert!(cores >= 1 && cores <= thread::available_parallelism().unwrap().get());
        let before = tch::get_num_threads();
        set_threads(1).unwrap();
        assert_eq!(tch::get_num_threads(), 1);
        tch::set_num_threads(before);
        assert!(set_threads(0).is_err());
    }
}
