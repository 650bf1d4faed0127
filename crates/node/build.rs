//! Tells the linker that Node.js provides the N-API symbols.

fn main() {
    napi_build::setup();
}
