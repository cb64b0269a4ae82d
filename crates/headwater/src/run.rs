//! A server's life: configuration → messages → data directory → listener → keys → roles, and back.
//!
//! Owns: the order of the start. [`crate::wiring`] knows the parts, [`crate::lifecycle`] the end, [`crate::ready`] what is told
//! once it works.

use crate::cli::{Run, Server};
use crate::config::{self, Checked, Flags};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::lifecycle::{self, Stop};
use crate::notify::Notifier;
use crate::opening::{self, Opened};
use crate::wiring::{Backends, Process};
use crate::{demo, keys, logging, ready};
use anyhow::{Context, anyhow};
use headwater_web::Face;
use headwater_web::logging::Switch;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What is left of the runtime after the end is given this long; a second signal gives it nothing.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// `headwater run ROLE...`.
pub(crate) fn run(args: &Run, environment: &Environment) -> Outcome {
    let roles: Vec<&str> = args.roles.iter().map(|role| role.as_str()).collect();
    serve(&args.server, args.server.flags().with("roles", "ROLE", Some(roles.join(","))), false, environment)
}

/// Runs a server until it is told to stop; with `demo` also a fleet that sends to it.
pub(crate) fn serve(server: &Server, flags: Flags, demo: bool, environment: &Environment) -> Outcome {
    let settings = config::load(server.config.as_deref(), environment, flags)?.checked(server.insecure)?;
    if demo && settings.http.has_tls() {
        return Err(Failure::Usage(
            "--demo sends to its own server over plain HTTP; leave out http.tls_cert, or run `headwater simulate` with --url https://… \
             beside `headwater up`"
                .to_owned(),
        ));
    }
    let messages = logging::start(&settings.logging, environment)?;
    #[cfg(feature = "otlp")]
    let sending = crate::otlp::start(&settings.otlp)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let notifier = Notifier::of(environment);
    let outcome = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        tokio::select! {
            outcome = live(settings, demo, messages, &stop, &notifier) => outcome,
            () = stop.hard.cancelled() => Err(anyhow!("stopped at once by a second signal; what was acknowledged is safe")),
        }
    });
    runtime.shutdown_timeout(LAST_MOMENT);
    #[cfg(feature = "otlp")]
    sending.into_iter().for_each(crate::otlp::Sending::end);
    outcome.map_err(Failure::Failed)
}

async fn live(settings: Checked, demo: bool, messages: Arc<dyn Switch>, stop: &Stop, notifier: &Notifier) -> anyhow::Result<()> {
    let opening = opening::open(&settings, stop);
    let Some(Opened { mut backends, listener }) = notifier.starting("opening the log and the store", opening).await? else { return Ok(()) };
    let own = headwater_web::logging::face(messages, settings.logging.text().to_owned());
    let outcome = work(settings, &mut backends, own, listener, demo, stop, notifier).await;
    let closed = backends.close().await;
    outcome.and(closed)
}

/// From the opened backends to the stop of everything that uses them.
async fn work(
    settings: Checked,
    backends: &mut Backends,
    own: Face,
    listener: Option<TcpListener>,
    with_demo: bool,
    stop: &Stop,
    notifier: &Notifier,
) -> anyhow::Result<()> {
    // Before the keys: a first start that finds its port taken leaves the next one to be the first.
    let listener = match listener {
        Some(listener) => listener,
        None => bind(&settings).await?,
    };
    let keys = Arc::new(keys::of_server(&settings)?);
    let address = listener.local_addr().context("look at the listener's address")?;
    let drain_delay = settings.http.drain_delay;
    let mut process = Process::start(&settings, backends, &keys, own, listener, stop)?;
    let following = AbortOnDropHandle::new(tokio::spawn(notifier.clone().follow(process.probes(), process.health(), backends.pulse())));
    let outcome = tokio::select! {
        () = ready::announce(&settings, &keys, address, backends.durability(), process.probes()) => None,
        outcome = lifecycle::until_stopped(process.tasks(), stop) => Some(outcome),
    };
    let outcome = match outcome {
        Some(early) => early,
        None => {
            if with_demo {
                process.tasks().start("the demonstration", demo::run(settings.clone(), Arc::clone(&keys), address, stop.soft.clone()));
            }
            lifecycle::until_stopped(process.tasks(), stop).await
        }
    };
    drop(following);
    notifier.stopping();
    // Where something failed nobody is served well by going on.
    let delay = if outcome.is_ok() { drain_delay } else { Duration::ZERO };
    outcome.and(process.stop(delay).await)
}

pub(crate) async fn bind(settings: &Checked) -> anyhow::Result<TcpListener> {
    let address = &settings.http.listen;
    TcpListener::bind(address.as_str()).await.map_err(|why| match why.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("{address} is taken by another process; choose another address with --listen ADDR (or http.listen)")
        }
        _ => anyhow::Error::from(why).context(format!("listen on {address} (--listen ADDR chooses another address)")),
    })
}
