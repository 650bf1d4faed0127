//! How JavaScript stops a command that it has sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi_derive::napi;

use crate::driver::Failure;
use crate::error::{Code, Error};

/// Stops the commands that it is given to, each within a step.
#[napi]
#[derive(Default)]
pub struct AbortHandle {
    asked: Arc<AtomicBool>,
}

#[napi]
impl AbortHandle {
    /// Has not been asked to stop anything.
    #[napi(constructor, catch_unwind)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the commands that have it, those that wait for their turn and those to come too.
    #[napi(catch_unwind)]
    pub fn abort(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

/// Tells a running command whether it is to stop; long work asks between steps.
pub struct Abort {
    closing: Arc<AtomicBool>,
    asked: Option<Arc<AtomicBool>>,
}

impl Abort {
    /// For a command of a session that `closing` says the end of, and of a caller that may have a handle.
    pub fn new(closing: Arc<AtomicBool>, handle: Option<&AbortHandle>) -> Self {
        Self { closing, asked: handle.map(|handle| handle.asked.clone()) }
    }

    /// Whether the command's own handle was used, or the session is being closed.
    pub fn is_asked(&self) -> bool {
        self.is_closing() || self.asked.as_ref().is_some_and(|asked| asked.load(Ordering::Relaxed))
    }

    /// Whether the session is being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// The error of work that was stopped before it had a result.
    pub fn error(&self, work: &str) -> Error {
        if self.is_closing() {
            return Failure::closed().into();
        }
        Error::new(Code::Aborted, format!("Expected the {work} to end but it was aborted."))
    }
}
