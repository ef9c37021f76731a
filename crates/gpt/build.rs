//! Lets the binary find libtorch when it is called directly.

fn main() {
    if let Ok(lib) = std::env::var("DEP_CORE_LAYERS_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
