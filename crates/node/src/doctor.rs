//! What a person needs to know when something does not run: CPU, instruction sets, threads.

use fovea_kernels::{Isa, Pool};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use serde::Serialize;

use crate::background::{Background, background};
use crate::error::{Code, Error, Result};
use crate::self_check::{self, Check};

/// The report, as JSON; src/native.ts adds what Node knows (platform, binary).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    ok: bool,
    version: &'static str,
    cpu_features: Vec<&'static str>,
    isa: Chosen,
    threads: usize,
    checks: Vec<Check>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Chosen {
    chosen: Option<&'static str>,
    available: Vec<&'static str>,
    problem: Option<String>,
}

/// Says what this machine has, which instruction set is chosen, and whether every kernel computes
/// what it should on every instruction set the machine has.
///
/// @returns the report as JSON: `{ok, version, cpuFeatures, isa, threads, checks}`
#[napi(ts_return_type = "Promise<string>")]
pub fn doctor() -> AsyncTask<Background<String>> {
    background(report)
}

fn report() -> Result<String> {
    let detected = Isa::detect();
    let threads = Pool::default_threads();
    let checks = self_check::run(threads).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let report = Report {
        ok: detected.is_ok() && checks.iter().all(Check::is_ok),
        version: env!("CARGO_PKG_VERSION"),
        cpu_features: cpu_features(),
        isa: Chosen {
            chosen: detected.as_ref().ok().map(|isa| isa.name()),
            available: Isa::available().into_iter().map(Isa::name).collect(),
            problem: detected.err().map(|error| error.to_string()),
        },
        threads,
        checks,
    };
    serde_json::to_string(&report).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// The features the kernels could use, whether or not they do: a short list that tells CPUs apart.
fn cpu_features() -> Vec<&'static str> {
    macro_rules! detected {
        ($is_detected:ident: $($feature:tt)*) => {
            [$(($feature, std::arch::$is_detected!($feature))),*]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let features = detected!(is_x86_feature_detected: "sse4.2" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16");
    #[cfg(target_arch = "aarch64")]
    let features = detected!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "bf16" "i8mm" "sve" "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let features: [(&str, bool); 0] = [];
    features.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}
