//! The server: an address, a model, and connections until it is asked to end.

use crate::about::About;
use crate::app::App;
use crate::body::Budget;
use crate::connection;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::served::Served;
use crate::slots::Slots;
use crate::vectors::Vectors;
use anemll_chat_template::Message;
use anemll_codes as codes;
use anemll_generation::chat_template;
use anemll_generation::embedder::Embedder;
use anemll_generation::engine::Engine;
use anemll_generation::generation::Generator;
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_generation::settings::Suggestion;
use anemll_plugin_api::{Error, Result};
use anemll_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};

/// Connections at once; further ones wait until one of them ends.
const MOST_CONNECTIONS: usize = 2048;
/// Connections that the system keeps until they are taken.
const BACKLOG: u32 = 1024;
/// Files beside those of connections.
const OTHER_FILES: u64 = 256;
/// How long answers may take to their end once the server is asked to end.
const GRACE: Duration = Duration::from_secs(8);
/// How long clients have to take the end of an answer that was cut.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often the server looks whether it is asked to end.
const LOOK: Duration = Duration::from_millis(50);
/// Threads for templates and tokenizers, beside those that make vectors.
const BLOCKING_THREADS: usize = 4;

/// Where and to whom a model is served.
#[derive(Debug)]
#[non_exhaustive]
pub struct Options {
    /// Name or address of the interface.
    pub host: String,
    /// Port; 0 takes any that is free.
    pub port: u16,
    /// The model's name for clients.
    pub name: String,
    /// Requests that may wait beside those that are answered.
    pub queue: usize,
    /// The keys of which clients must show one.
    pub keys: Option<Keys>,
}

impl Options {
    /// Port 8080 of this machine alone.
    pub fn new(name: impl Into<String>) -> Self {
        let host = "127.0.0.1".to_owned();
        Self { host, port: 8080, name: name.into(), queue: 32, keys: None }
    }
}

impl Options {
    /// The name of the conversion that a meta.yaml is of, for clients: that of its directory.
    pub fn name_of(meta: &Path) -> String {
        let path = std::path::absolute(meta).unwrap_or_else(|_| meta.to_owned());
        let name = path.parent().and_then(Path::file_name);
        name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// A server that has its address, and whose model is ready.
pub struct Server {
    app: Arc<App>,
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    notes: Vec<String>,
}

impl Server {
    /// Takes the address, and opens an engine for each of `slots` slots, of a model that writes; `draft`
    /// says who guesses tokens.
    ///
    /// # Errors
    /// [`codes::SERVER_ADDRESS`]: the address is in use or not of this machine;
    /// [`codes::SERVER_KEY`]: others could ask, and there is no key; the chat template's, and those of
    /// `open` and `draft`.
    pub fn new(
        options: Options,
        slots: usize,
        tokenizer: Tokenizer,
        open: impl FnMut() -> Result<Engine>,
        draft: impl Fn(&mut Generator) -> Result<()>,
    ) -> Result<Self> {
        let base = Base::new(&options, slots)?;
        let engines = opened(slots, open, Engine::warm_up)?;
        let template = chat_template::open(&tokenizer)?;
        let chat = Suggestion::for_chat(tokenizer.generation());
        let mut notes = chat.notes.clone();
        if template.is_none() {
            notes.push("the model has no chat template; messages are run as they are".to_owned());
        }
        // A template that does not work shall be known now, and not at the first question.
        let hello = [Message::new("user", "Hello")];
        match template.as_ref().map(|template| template.render(&hello, &BTreeMap::new())) {
            Some(Err(error)) if error.code != codes::PROMPT_INVALID => return Err(error),
            _ => {}
        }
        let engine = &engines[0];
        let about = About::new(options.name, engine.context() as usize);
        let served = Arc::new(Served {
            about: about.clone(),
            vocabulary: engine.vocabulary(),
            gives_largest: engine.gives_largest(),
            chat,
            text: Suggestion::for_continuation(tokenizer.generation()),
            template,
            tokenizer,
        });
        let generator = |engine| {
            let sampler = Sampler::new(Sampling::GREEDY, Some(0));
            let mut generator = Generator::new(engine, sampler, served.tokenizer.stop_tokens());
            generator.set_exact_reuse(true);
            draft(&mut generator)?;
            Ok(generator)
        };
        let generators = engines.into_iter().map(generator).collect::<Result<_>>()?;
        let metrics = Arc::new(Metrics::default());
        let slots = Slots::start(generators, options.queue, &served, &metrics)?;
        Ok(base.serving(about, Model::Text(served, slots), metrics, options.keys, notes))
    }

    /// As [`Self::new`], of a model that gives vectors.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_vectors(
        options: Options,
        slots: usize,
        tokenizer: Tokenizer,
        open: impl FnMut() -> Result<Embedder>,
    ) -> Result<Self> {
        let base = Base::new(&options, slots)?;
        let embedders = opened(slots, open, Embedder::warm_up)?;
        let about = About::new(options.name, embedders[0].context() as usize);
        let metrics = Arc::new(Metrics::default());
        let vectors = Vectors::new(about.clone(), tokenizer, embedders, options.queue, &metrics);
        let model = Model::Vectors(Arc::new(vectors));
        Ok(base.serving(about, model, metrics, options.keys, Vec::new()))
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server is, and where: lines for the user.
    pub fn greeting(&self) -> String {
        let Self { address, app, .. } = self;
        let key = if app.keys.is_some() { " (with a key)" } else { "" };
        let About { name, context, .. } = &app.about;
        let what = match &app.model {
            Model::Text(..) => format!("with a context of {context} tokens"),
            Model::Vectors(_) => format!("giving vectors of texts of up to {context} tokens"),
        };
        format!("serving \"{name}\" at http://{address}/ {what}{key}; Ctrl-C ends")
    }

    /// What of the model has no effect here: sentences for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Serves until `asked_to_end` says so, which is asked many times a second. Then answers come to
    /// their end, or are cut after some seconds, and no new ones begin.
    pub fn run(self, asked_to_end: impl Fn() -> bool) {
        let Self { app, runtime, listener, .. } = self;
        runtime.block_on(async {
            let (tell, ending) = watch::channel(false);
            let connections = allowed_connections();
            let room = Arc::new(Semaphore::new(connections as usize));
            let accept = accept(listener, Arc::clone(&app), Arc::clone(&room), ending);
            tokio::select! {
                () = accept => {}
                () = until(&asked_to_end) => {}
            }
            tracing::info!("the server ends");
            app.model.end();
            let _ = tell.send(true);
            // With all of the room back, there is no connection.
            let began = Instant::now();
            let all_gone = timeout(GRACE, room.acquire_many(connections)).await;
            if all_gone.is_err() {
                tracing::info!("answers are cut after {} s", began.elapsed().as_secs());
                app.model.cut();
                let _ = timeout(LAST_WORDS, room.acquire_many(connections)).await;
            }
        });
        // A template that is being rendered is not waited for.
        runtime.shutdown_background();
    }
}

/// What a server needs before its model, which takes longer.
struct Base {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

impl Base {
    fn new(options: &Options, slots: usize) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS + slots)
            .build()
            .map_err(|source| Error::new(codes::THREADS, format!("no runtime: {source}")))?;
        let addresses = addresses(options)?;
        let listener = runtime.block_on(async { listen(&addresses, options) })?;
        let address = listener.local_addr().map_err(|source| unusable(options, &source))?;
        Ok(Self { runtime, listener, address })
    }

    fn serving(
        self,
        about: About,
        model: Model,
        metrics: Arc<Metrics>,
        keys: Option<Keys>,
        notes: Vec<String>,
    ) -> Server {
        let Self { runtime, listener, address } = self;
        let app = App { about, model, metrics, keys, budget: Budget::default() };
        Server { app: Arc::new(app), runtime, listener, address, notes }
    }
}

/// An engine for each slot, of which there is one at least. Each has read its weights, so that the files may
/// go while it is at work, and the first client waits no longer than others.
fn opened<T>(
    slots: usize,
    mut open: impl FnMut() -> Result<T>,
    warm_up: impl Fn(&mut T) -> Result<()>,
) -> Result<Vec<T>> {
    let ready = || {
        let mut engine = open()?;
        warm_up(&mut engine)?;
        Ok(engine)
    };
    std::iter::repeat_with(ready).take(slots.max(1)).collect()
}

async fn until(asked_to_end: &impl Fn() -> bool) {
    let mut ticks = interval(LOOK);
    while !asked_to_end() {
        ticks.tick().await;
    }
}

/// Takes connections, as many at once as there is room for.
async fn accept(
    listener: TcpListener,
    app: Arc<App>,
    room: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
) {
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let serve = connection::serve(stream, Arc::clone(&app), ending.clone());
                tokio::spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of files, or a client that has left already: others may do better.
                tracing::warn!("a connection cannot be taken: {error}");
                sleep(LOOK).await;
            }
        }
    }
}

/// How many connections the system allows at once, beside other files.
fn allowed_connections() -> u32 {
    let wanted = MOST_CONNECTIONS as u64 + OTHER_FILES;
    let allowed = rlimit::increase_nofile_limit(wanted).unwrap_or(wanted);
    let most = allowed.saturating_sub(OTHER_FILES).clamp(16, MOST_CONNECTIONS as u64);
    u32::try_from(most).unwrap_or(16)
}

/// The addresses of the interface, where those who can reach it are known.
fn addresses(options: &Options) -> Result<Vec<SocketAddr>> {
    let host = options.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, options.port)
        .to_socket_addrs()
        .map_err(|source| unusable(options, &source))?
        .collect();
    let local = addresses.iter().all(|address| address.ip().is_loopback());
    if !local && options.keys.is_none() {
        return Err(Error::new(
            codes::SERVER_KEY,
            format!("others could use a server at {}, so it needs a key", options.host),
        )
        .with_hint("make a key with `openssl rand -hex 24 > FILE`, and give --api-key-file FILE"));
    }
    Ok(addresses)
}

fn listen(addresses: &[SocketAddr], options: &Options) -> Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // On Windows it would let two servers share a port.
            #[cfg(not(windows))]
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            socket.listen(BACKLOG)
        };
        match listen() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(unusable(options, &last))
}

fn unusable(options: &Options, source: &io::Error) -> Error {
    let Options { host, port, .. } = options;
    let error = |message: String| Error::new(codes::SERVER_ADDRESS, message);
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            error(format!("the port {port} of {host} is in use by another program"))
                .with_hint("take another with --port, or --port 0 for any that is free")
        }
        io::ErrorKind::PermissionDenied => {
            error(format!("the port {port} of {host} is not for everyone"))
                .with_hint("take one above 1023, such as --port 8080")
        }
        _ => error(format!("{host} with port {port} cannot be served at: {source}"))
            .with_hint("take an address of this machine, such as --host 127.0.0.1"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn others_are_served_with_a_key_alone() {
        let options = |host: &str| Options { host: host.to_owned(), ..Options::new("x") };
        for host in ["127.0.0.1", "::1", "[::1]", "127.0.0.2"] {
            assert!(addresses(&options(host)).is_ok(), "{host}");
        }
        for host in ["0.0.0.0", "::", "192.0.2.1"] {
            assert_eq!(addresses(&options(host)).unwrap_err().code, codes::SERVER_KEY, "{host}");
        }
        let error = addresses(&options("no such host")).unwrap_err();
        assert_eq!(error.code, codes::SERVER_ADDRESS, "{error}");
    }
}
