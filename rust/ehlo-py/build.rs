//! Tells the binding which Python it is built for, and how.

use std::env;

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["TARGET", "PROFILE", "OPT_LEVEL"] {
        println!("cargo::rustc-env=EHLO_{name}={}", env::var(name).unwrap_or_default());
    }
}
