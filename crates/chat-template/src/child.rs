//! The process that renders: what happens in it.

use crate::failure::{Failure, Kind};
use crate::limits::{self, Watch};
use crate::protocol::{Reply, Request, read, write};
use crate::renderer::Renderer;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// Stack of the thread that renders. Only what is used of it takes memory.
pub(crate) const STACK: usize = 64 << 20;

/// Processor time that each message of a conversation adds to the limit.
const TIME_PER_MESSAGE: Duration = Duration::from_millis(1);

/// Answers requests until the input ends.
pub(crate) fn serve() -> ExitCode {
    limits::prepare();
    // What it would tell goes to the parent, as an answer.
    std::panic::set_hook(Box::new(|_| {}));
    let worker = std::thread::Builder::new().name("chat template".to_owned()).stack_size(STACK);
    let done = worker
        .spawn(answer_all)
        .and_then(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))));
    limits::exit_code(done)
}

fn answer_all() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let Some(request) = read::<Request<'static>>(&mut input)? else { return Ok(()) };
    let Request::Compile { source, tokens, time, memory } = request else {
        return Err(io::Error::other("the first request must be a template"));
    };
    let time = Duration::from_millis(time);
    let watch = Watch::start(memory)?;
    let compiled = watch.during(time, || guarded(|| Renderer::new(&source, tokens.into_owned())));
    let renderer = match compiled {
        Ok(renderer) => {
            write(&mut output, &Reply::Ok(String::new()))?;
            renderer
        }
        Err(failure) => return write(&mut output, &Reply::Err(failure)),
    };
    while let Some(request) = read::<Request<'static>>(&mut input)? {
        let Request::Render { messages, variables } = request else {
            return Err(io::Error::other("there is a template already"));
        };
        let messages_time = TIME_PER_MESSAGE * u32::try_from(messages.len()).unwrap_or(u32::MAX);
        watch.during(time + messages_time, || {
            let reply: Reply = guarded(|| renderer.render(&messages, &variables));
            write(&mut output, &reply)
        })?;
    }
    Ok(())
}

/// Makes a failure of a panic.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let reason = reason.unwrap_or_else(|| "it did not say why".to_owned());
        Err(Failure::new(Kind::Limit, None, &format!("the template engine gave up: {reason}")))
    })
}
