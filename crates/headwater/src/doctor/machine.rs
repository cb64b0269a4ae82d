//! What the machine gives: a clock, file descriptors, a port.

use super::Line;
use crate::config::{Role, Settings};
use crate::wiring;
use headwater_core::clock::{Clock, SystemClock};
use rustix::process::{Resource, getrlimit};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// Descriptors beside those of connections: databases, the log, threads, messages.
const OTHER_FILES: u64 = 128;

pub(super) fn look(settings: &Settings) -> Vec<Line> {
    vec![clock(), descriptors(settings), port(settings)]
}

fn clock() -> Line {
    let now = SystemClock.now();
    match wiring::built_at() {
        Ok(built) if now < built => Line::fail(
            "clock",
            format!("it says {now}, which is before this program was built: writes are answered 503"),
            "set it, and let it be kept right (systemd-timesyncd, chrony)",
        ),
        _ => Line::ok("clock", format!("it says {now}")),
    }
}

fn descriptors(settings: &Settings) -> Line {
    let needed = settings.http.max_connections as u64 + OTHER_FILES;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Line::warn(
            "open files",
            format!("{limit} are allowed here, and http.max_connections = {} may take {needed}", settings.http.max_connections),
            "allow more (LimitNOFILE= in the unit, ulimit -n), or set http.max_connections lower",
        ),
        Some(limit) => Line::ok("open files", format!("{limit} are allowed here")),
        None => Line::ok("open files", "as many as there are"),
    }
}

fn port(settings: &Settings) -> Line {
    let Ok(address) = settings.http.listen.parse::<SocketAddr>() else {
        return Line::fail("port", format!("http.listen = {} cannot be read", settings.http.listen), "write it like 127.0.0.1:8080");
    };
    match TcpListener::bind(address) {
        Ok(_) => Line::ok("port", format!("{address} is free")),
        Err(why) if why.kind() == ErrorKind::AddrInUse => match wiring::examine::holder(settings) {
            Some(holder) => Line::ok("port", format!("{address} is taken, as the data directory is, by {holder}")),
            None if runs_elsewhere(settings) => {
                Line::warn("port", format!("{address} is taken"), "if that is not the server itself, choose another with http.listen")
            }
            None => Line::fail("port", format!("{address} is taken by another process"), "choose another with http.listen or --listen"),
        },
        Err(why) if why.kind() == ErrorKind::PermissionDenied => Line::fail(
            "port",
            format!("{address} may not be listened on: {why}"),
            "take one above 1023, or give the right (AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        Err(why) => Line::fail("port", format!("{address} cannot be listened on: {why}"), "choose another with http.listen or --listen"),
    }
}

/// Where nothing is embedded, no lock tells whose the port is.
fn runs_elsewhere(settings: &Settings) -> bool {
    !wiring::examine::has_directory(settings) || settings.roles == [Role::Rollup]
}
