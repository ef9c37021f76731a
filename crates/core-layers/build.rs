//! Builds the C++ shim against the libtorch that torch-sys found, and hands that folder on to every binary crate.

use std::{env, error::Error, fs, os::unix, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for source in [
        "csrc/api.h",
        "csrc/overwrite.h",
        "csrc/cpu",
        "csrc/gradient.cpp",
        "csrc/guards.cpp",
        "csrc/optim.cpp",
    ] {
        println!("cargo:rerun-if-changed={source}"); // .cu files are text of the crate
    }
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        return Ok(());
    }
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB")?);
    // `DEP_CORE_LAYERS_LIBTORCH_LIB` in the build scripts of direct dependents: their binaries' run path.
    println!("cargo:libtorch_lib={}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // cargo puts native search paths inside the target folder on LD_LIBRARY_PATH for run, test and bench: give it one.
    let link = PathBuf::from(env::var("OUT_DIR")?).join("libtorch-lib");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    unix::fs::symlink(&lib, &link)?;
    println!("cargo:rustc-link-search=native={}", link.display());

    let include = lib.parent().ok_or("libtorch's lib folder has a parent")?.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false) // libtorch's headers are not clean under -Wall
        .opt_level(3)
        .flag("-fopenmp") // at::parallel_for is an inline `#pragma omp`: without it, one thread
        .flag("-fno-trapping-math") // lets comparisons in a loop become vector masks
        .flag("-fno-math-errno")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .files(["csrc/optim.cpp", "csrc/guards.cpp", "csrc/gradient.cpp"])
        .files(["csrc/cpu/conv.cpp", "csrc/cpu/gate.cpp"])
        .files(["csrc/cpu/cross_entropy.cpp", "csrc/cpu/nade.cpp"])
        .files(["csrc/cpu/attention.cpp", "csrc/cpu/feed_forward.cpp"])
        .files(["csrc/cpu/logistics.cpp", "csrc/cpu/norm.cpp"])
        .compile("core_layers_shim");
    Ok(())
}
