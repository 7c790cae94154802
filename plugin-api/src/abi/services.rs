//! Host and sink, in both directions.
//!
//! The host lends: [`LentHost`] and [`LentSink`] stand between the host's own objects and a plugin;
//! they turn panics into errors and remember the first failure, so that a plugin which overlooks it
//! does not hide it. The plugin borrows: [`BorrowedHost`] and [`BorrowedSink`] make safe objects of
//! what it was lent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::{RMut, RRef};
use abi_stable::std_types::{RBox, RSlice, RStr, RVec};

use super::convert::{from_abi, one_line, path_from_bytes, path_to_bytes, printable, to_abi};
use super::guard::{QuietDrop, catch, catch_result};
use super::sink_check::LentSink;
use super::v1::{
    Abi, AbiHostServices, AbiHostServices_TO, AbiSink, AbiSink_TO, AbiTask, AbiTask_TO, HostBox,
    SinkMut, TaskRef,
};
use crate::host::Backend;
use crate::{DType, Error, Host, Level, Result, Sink, codes};

/// The first panic in a service of the host, shared by the plugin's handle and the host's side of
/// the call.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn set(&self, error: &Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
    }

    fn get(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The plugin's result, unless the host had failed underneath it.
    pub(super) fn settle<R>(&self, result: Result<R>) -> Result<R> {
        match self.get() {
            Some(error) => Err(error),
            None => result,
        }
    }
}

/// A host as it is given to a plugin.
struct LentHost {
    host: QuietDrop<Host>,
    failure: Failure,
}

/// Makes a plugin's handle to `host`, and the place where its failure will stand.
pub(super) fn lend_host(host: &Host) -> (HostBox, Failure) {
    let failure = Failure::default();
    let lent = LentHost { host: QuietDrop::new(host.clone()), failure: failure.clone() };
    (AbiHostServices_TO::from_ptr(RBox::new(lent), TD_Opaque), failure)
}

impl LentHost {
    fn call<R>(&self, entry: &str, function: impl FnOnce(&dyn Backend) -> Result<R>) -> Abi<R> {
        if let Some(error) = self.failure.get() {
            return to_abi(Err(error));
        }
        to_abi(catch_result(
            |panic| {
                let error = panic.in_host(entry);
                self.failure.set(&error);
                error
            },
            || function(self.host.get().backend()),
        ))
    }

    /// For services without a result: the failure comes to light at the next one that has one.
    fn call_plain<R>(&self, entry: &str, function: impl FnOnce(&dyn Backend) -> R) -> Option<R> {
        catch(|| function(self.host.get().backend()))
            .map_err(|panic| self.failure.set(&panic.in_host(entry)))
            .ok()
    }
}

impl AbiHostServices for LentHost {
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>) {
        self.call_plain("host.log", |host| {
            host.log(Level::from_number(level), &one_line(&target), &printable(&message));
        });
    }

    fn progress(&self, task: RStr<'_>, done: u64, total: u64) -> Abi<bool> {
        self.call("host.progress", |host| host.progress(&one_line(&task), done, total))
    }

    fn cancelled(&self) -> Abi<bool> {
        self.call("host.cancelled", |host| host.cancelled())
    }

    fn threads(&self) -> u64 {
        self.call_plain("host.threads", |host| host.threads() as u64).unwrap_or(1)
    }

    fn parallel(&self, count: u64, task: TaskRef<'_>) -> Abi<()> {
        self.call("host.parallel", |host| {
            let count = usize::try_from(count).map_err(|_| {
                Error::new(codes::PLUGIN_BAD_ANSWER, format!("{count} parallel calls are too many"))
            })?;
            host.parallel(count, &|index| task.run(index as u64))
        })
    }

    fn scratch_directory(&self) -> Abi<RVec<u8>> {
        self.call("host.scratch_directory", |host| {
            let path = host.scratch_directory()?;
            Ok(path_to_bytes(&path)?.to_vec().into())
        })
    }
}

/// A host as a plugin sees it.
struct BorrowedHost(HostBox);

/// Makes a handle of what the plugin was given.
pub(super) fn borrow_host(host: HostBox) -> Host {
    Host::from_backend(Arc::new(BorrowedHost(host)))
}

/// Parallel calls as they are given to the host.
struct LentTask<'a>(&'a (dyn Fn(usize) + Sync));

impl AbiTask for LentTask<'_> {
    fn run(&self, index: u64) {
        // The function has its own guard, `Host::parallel`'s; this one keeps the boundary whole.
        let _ = catch(|| {
            if let Ok(index) = usize::try_from(index) {
                (self.0)(index);
            }
        });
    }
}

impl Backend for BorrowedHost {
    fn log(&self, level: Level, target: &str, message: &str) {
        self.0.log(level as u32, target.into(), message.into());
    }

    fn progress(&self, task: &str, done: u64, total: u64) -> Result<bool> {
        from_abi(self.0.progress(task.into(), done, total))
    }

    fn cancelled(&self) -> Result<bool> {
        from_abi(self.0.cancelled())
    }

    fn threads(&self) -> usize {
        usize::try_from(self.0.threads()).unwrap_or(1)
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let lent = LentTask(task);
        let task = AbiTask_TO::from_ptr(RRef::new(&lent), TD_Opaque);
        from_abi(self.0.parallel(count as u64, task))
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        path_from_bytes(&from_abi(self.0.scratch_directory())?)
    }
}

/// Makes a plugin's reference to a sink.
///
/// `abi_stable` wants a mutable reference that is to be sent to point to something shareable; the
/// mutex makes it so, and is never locked.
pub(super) fn lend_sink<'a>(sink: &'a mut Mutex<LentSink<'_>>) -> SinkMut<'a> {
    AbiSink_TO::from_ptr(RMut::new(sink), TD_Opaque)
}

impl AbiSink for Mutex<LentSink<'_>> {
    fn begin(&mut self, name: RStr<'_>, dtype: u32, shape: RSlice<'_, u64>) -> Abi<u64> {
        to_abi(inner(self).begin(name.as_str(), DType(dtype), shape.as_slice()))
    }

    fn write(&mut self, id: u64, bytes: RSlice<'_, u8>) -> Abi<()> {
        to_abi(inner(self).write(id, bytes.as_slice()))
    }

    fn finish(&mut self, id: u64) -> Abi<()> {
        to_abi(inner(self).finish(id))
    }
}

/// The sink behind a mutex that no one else can reach.
pub(super) fn inner<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// A sink as a plugin sees it.
pub(super) struct BorrowedSink<'a>(pub(super) SinkMut<'a>);

impl Sink for BorrowedSink<'_> {
    fn begin(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<u64> {
        from_abi(self.0.begin(name.into(), dtype.0, shape.into()))
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        from_abi(self.0.write(id, bytes.into()))
    }

    fn finish(&mut self, id: u64) -> Result<()> {
        from_abi(self.0.finish(id))
    }
}
