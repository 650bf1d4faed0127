//! One thread per session that runs its commands in order.
//!
//! A command is a closure over the engine's session; its promise settles when it ends. The JavaScript thread only
//! sends: it computes nothing and waits for nothing, except that a session that is thrown away waits for its thread,
//! which stops within a step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use fovea_engine::Session;
use napi::Env;
use napi::bindgen_prelude::{Object, ToNapiValue};

use crate::abort::{Abort, AbortHandle};
use crate::error::{Code, Error, Result, from_panic, rejection};
use crate::train::Feed;

/// The JavaScript side of a driver thread.
pub struct Driver {
    /// None once closed.
    commands: Option<Sender<Command>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Command = Box<dyn FnOnce(&mut State) + Send>;

/// What the thread works with, or why there is nothing any more.
type State = std::result::Result<Worker, Failure>;

/// What the driver thread owns.
pub struct Worker {
    session: Session,
    feed: Option<Feed>,
}

impl Worker {
    /// The session, for anything but training: what training had prepared is given up.
    pub fn session(&mut self) -> &mut Session {
        self.feed = None;
        &mut self.session
    }

    /// The session, and the batches that the last run of steps had begun to prepare for the next.
    pub fn training(&mut self) -> (&mut Session, &mut Option<Feed>) {
        (&mut self.session, &mut self.feed)
    }
}

/// An error that every later command is answered with.
#[derive(Clone)]
pub struct Failure {
    code: Code,
    message: String,
}

impl Driver {
    /// Starts a thread that makes its session with `make`; when that fails, every command fails with the same error.
    pub fn start(make: impl FnOnce() -> Result<Session> + Send + 'static) -> Result<Self> {
        let (commands, received) = channel();
        let thread = Builder::new().name("fovea-driver".to_owned()).spawn(move || drive(make, &received));
        let thread = thread.map_err(|error| {
            Error::new(
                Code::Internal,
                format!("Expected the system to start a thread but it refused: {error}."),
            )
        })?;
        Ok(Self { commands: Some(commands), closing: Arc::default(), thread: Some(thread) })
    }

    /// Sends a command. The promise settles with what it returns, with `CLOSED` when the session is closed, and with
    /// `INTERNAL` when it panics; after a panic nothing is known of the session, so later commands fail, too.
    ///
    /// - `handle`: what stops this command, and no other that does not have it.
    pub fn send<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        handle: Option<&AbortHandle>,
        work: impl FnOnce(&mut Worker, &Abort) -> Result<T> + Send + 'static,
    ) -> Result<Object<'env>> {
        let abort = Abort::new(self.closing.clone(), handle);
        self.submit(env, move |state| match state {
            Err(failure) => Err(failure.clone().into()),
            Ok(worker) => catch_unwind(AssertUnwindSafe(|| work(worker, &abort))).unwrap_or_else(|payload| {
                let error = from_panic(&*payload);
                *state = Err(Failure::from(&error));
                Err(error)
            }),
        })
    }

    /// Stops long commands, frees the session and takes no more of them; the promise resolves when that is
    /// done.
    pub fn close<'env>(&mut self, env: &'env Env) -> Result<Object<'env>> {
        self.closing.store(true, Ordering::Relaxed);
        let promise = self.submit(env, |state| {
            *state = Err(Failure::closed());
            Ok(())
        });
        self.commands = None;
        promise
    }

    fn submit<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<Object<'env>> {
        let (deferred, promise) = env
            .create_deferred::<T, Box<dyn FnOnce(Env) -> napi::Result<T> + Send>>()
            .map_err(|error| Error::new(Code::Internal, error.reason))?;
        let command: Command = Box::new(move |state| {
            let result = work(state);
            deferred.resolve(Box::new(|env| result.map_err(|error| rejection(env, error))));
        });
        let unsent = match &self.commands {
            Some(commands) => commands.send(command).err().map(|error| error.0),
            None => Some(command),
        };
        if let Some(command) = unsent {
            command(&mut Err(Failure::closed()));
        }
        Ok(promise)
    }
}

impl Drop for Driver {
    /// Runs on the JavaScript thread when the session is collected and when Node ends, and leaves no thread behind.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it catches its panics
        }
    }
}

/// The driver thread: makes the session, then answers every command until all that can send are gone.
fn drive(make: impl FnOnce() -> Result<Session>, commands: &Receiver<Command>) {
    let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|payload| Err(from_panic(&*payload)));
    let mut state = made.map(|session| Worker { session, feed: None }).map_err(|error| Failure::from(&error));
    for command in commands {
        command(&mut state);
    }
}

impl Failure {
    /// The session was closed.
    pub fn closed() -> Self {
        Self { code: Code::Closed, message: "Expected an open session but it was closed.".to_owned() }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.status, message: error.reason.clone() }
    }
}

impl From<Failure> for Error {
    fn from(Failure { code, message }: Failure) -> Self {
        Self::new(code, message)
    }
}
