//! Ports that are free and stay ours while a server is down.
//!
//! They lie below the range that the kernel gives to outgoing connections: a port from that range (which binding to port 0
//! would give) can be taken by any client while its server is being restarted, even by the very client that keeps trying to
//! reach it: a connection from a port to itself.

use anyhow::Context;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where to look, if the kernel's own range lies above it (it does by default: 32768 and up).
const RANGE: Range<u16> = 20_000..32_000;

/// Ports handed out by this process; never twice, since a server that is down still owns its port.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` ports of 127.0.0.1 that nobody listens on and that this process has not given out before.
pub(crate) fn free<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = one()?;
    }
    Ok(ports)
}

fn one() -> anyhow::Result<u16> {
    let candidates = (0..200).map(|_attempt| if own_range_is_free() { candidate() } else { 0 });
    first_free(candidates).with_context(|| format!("find a free port of 127.0.0.1 between {} and {}", RANGE.start, RANGE.end))
}

/// The first that nobody listens on and that was not given out; 0 stands for one of the kernel's choice.
fn first_free(candidates: impl IntoIterator<Item = u16>) -> Option<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let free = |wanted| TcpListener::bind(("127.0.0.1", wanted)).and_then(|listener| listener.local_addr()).map(|address| address.port());
    candidates.into_iter().filter_map(|wanted| free(wanted).ok()).find(|port| taken.insert(*port))
}

/// Starts at a place that differs between processes, so that two rarely look at the same.
fn candidate() -> u16 {
    static STEP: AtomicU32 = AtomicU32::new(0);
    let step = STEP.fetch_add(1, Ordering::Relaxed);
    let seed = std::process::id().wrapping_mul(7_919).wrapping_add(step);
    let width = u32::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from(seed % width).unwrap_or(0)
}

fn own_range_is_free() -> bool {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = text.split_whitespace().next().and_then(|low| low.parse::<u16>().ok());
    lowest.is_none_or(|low| low >= RANGE.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_never_given_twice() {
        let first: [u16; 3] = free().unwrap();
        let second: [u16; 3] = free().unwrap();
        let all: BTreeSet<u16> = first.into_iter().chain(second).collect();
        assert_eq!(all.len(), 6, "{first:?} {second:?}");
        for port in all {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert_eq!(first_free([port]), None);
        assert_ne!(first_free([port, 0]), Some(port));
        drop(held);
        assert_eq!(first_free([port]), Some(port));
        assert_eq!(first_free([port]), None, "given out twice");
    }
}
