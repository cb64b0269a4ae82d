//! Notes when the binary was built, in seconds since the epoch: the gateway takes no reading while the machine's clock is
//! before that (a small board without a battery boots in the past).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rustc-env=HEADWATER_BUILT_AT={}", reproducible().unwrap_or_else(now));
}

/// The time that whoever builds reproducibly has set.
#[expect(clippy::disallowed_methods, reason = "a build script has no configuration")]
fn reproducible() -> Option<u64> {
    std::env::var("SOURCE_DATE_EPOCH").ok()?.trim().parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "a build script has no Clock")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
