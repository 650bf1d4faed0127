//! Short work that needs no session, done on Node's thread pool.

use std::panic::{AssertUnwindSafe, catch_unwind};

use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, Task};

use crate::error::{Result, from_panic, rejection};

/// A closure on its way to the thread pool.
pub struct Background<T>(Option<Box<dyn FnOnce() -> Result<T> + Send>>);

/// Runs `work` on Node's thread pool; the promise resolves or rejects with what it returns.
/// A panic becomes an `INTERNAL` error.
pub fn background<T>(work: impl FnOnce() -> Result<T> + Send + 'static) -> AsyncTask<Background<T>>
where
    T: ToNapiValue + TypeName + Send + 'static,
{
    AsyncTask::new(Background(Some(Box::new(work))))
}

impl<T: ToNapiValue + TypeName + Send + 'static> Task for Background<T> {
    type Output = Result<T>;
    type JsValue = T;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let Some(work) = self.0.take() else {
            return Err(napi::Error::from_reason("The same work was started twice."));
        };
        Ok(catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(from_panic(&*payload))))
    }

    fn resolve(&mut self, env: Env, output: Self::Output) -> napi::Result<T> {
        output.map_err(|error| rejection(env, error))
    }
}
