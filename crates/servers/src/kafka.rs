//! A private Kafka in KRaft mode: one node, or several, each a broker and a controller.
//!
//! Owns: formatting, starting, killing, pausing and stopping nodes. Does not know: topics; tests make them by a client.
//! Invariants: ports stay the same over restarts; a killed broker can come back after two seconds, not nine.

pub(crate) mod install;

mod conf;
mod probe;

use crate::ports;
use crate::process::{Identity, Process};
use crate::system::{self, output};
use anyhow::{Context, bail, ensure};
use install::Programs;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use probe::answers;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(120);
/// Nodes that stop together may wait for one another.
const STOP: Duration = Duration::from_secs(30);

/// What a broker is tuned for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speed {
    /// To start in three seconds: compiled lightly, some 20 % slower afterwards, 384 MiB of heap.
    #[default]
    Start,
    /// To run: as the JVM does by itself, 1 GiB of heap.
    Run,
}

/// How brokers are set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Settings (`server.properties`) that replace ours or come to them.
    pub properties: Vec<(String, String)>,
    /// What they are tuned for.
    pub speed: Speed,
}

/// A cluster; it is stopped with the handle.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    programs: Programs,
    speed: Speed,
    guarded: bool,
}

#[derive(Debug)]
struct Node {
    /// From 1.
    id: usize,
    port: u16,
    dir: PathBuf,
    process: Option<Process>,
}

impl Kafka {
    /// Makes a cluster of `nodes` (1 to 9) in `dir` and starts it; returns when all of them answer.
    ///
    /// With three and more, topics get three replicas by default, of which two must have a record (`min.insync.replicas`).
    ///
    /// # Errors
    /// When Kafka is not installed and cannot be, or a node does not start; with the end of its log.
    pub fn start(dir: &Path, nodes: usize, options: &Options) -> anyhow::Result<Self> {
        Self::start_with(dir, nodes, options, true)
    }

    pub(crate) fn start_with(dir: &Path, nodes: usize, options: &Options, guarded: bool) -> anyhow::Result<Self> {
        let mut kafka = Self::formatted(install::install()?, dir, nodes, options, guarded)?;
        kafka.launch(&(0..nodes).collect::<Vec<_>>())?;
        Ok(kafka)
    }

    /// Everything but a running process.
    fn formatted(programs: Programs, dir: &Path, nodes: usize, options: &Options, guarded: bool) -> anyhow::Result<Self> {
        ensure!((1..=9).contains(&nodes), "a Kafka of {nodes} nodes");
        let dir = std::path::absolute(dir)?;
        let ports = (0..nodes).map(|_| ports::free::<2>()).collect::<anyhow::Result<Vec<_>>>()?;
        let controllers: Vec<u16> = ports.iter().map(|[_, controller]| *controller).collect();
        let mut made = Vec::new();
        for (at, [port, _]) in ports.iter().enumerate() {
            let node = Node { id: at + 1, port: *port, dir: dir.join(format!("n{}", at + 1)), process: None };
            fs::create_dir_all(&node.dir).with_context(|| format!("make {}", node.dir.display()))?;
            let text = conf::properties(node.id, node.port, &controllers, &node.dir.join("data"), &options.properties);
            fs::write(node.properties(), text).with_context(|| format!("write {}", node.properties().display()))?;
            made.push(node);
        }
        let kafka = Self { nodes: made, programs, speed: options.speed, guarded };
        kafka.format()?;
        Ok(kafka)
    }

    /// The addresses of its brokers, as clients take them: `127.0.0.1:20001,127.0.0.1:20002`.
    #[must_use]
    pub fn brokers(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// The port of node `n`, from 1.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn port(&self, n: usize) -> anyhow::Result<u16> {
        self.at(n).map(|at| self.nodes[at].port)
    }

    /// The pid of node `n`, from 1; `None` while it is down.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn pid(&self, n: usize) -> anyhow::Result<Option<u32>> {
        let at = self.at(n)?;
        Ok(self.nodes[at].process.as_ref().map(|process| process.identity().pid))
    }

    /// Whether node `n` (from 1) answers a request now.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn answers(&self, n: usize) -> anyhow::Result<bool> {
        self.port(n).map(answers)
    }

    /// Kills node `n` (from 1) with SIGKILL; the machine's memory of its files survives, as it does when a process dies.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        self.end(n, Signal::KILL)
    }

    /// Stops node `n` in order: it hands over what it leads first.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn stop_node(&mut self, n: usize) -> anyhow::Result<()> {
        self.end(n, Signal::TERM)
    }

    fn end(&mut self, n: usize, signal: Signal) -> anyhow::Result<()> {
        let at = self.at(n)?;
        self.nodes[at].process.take().map_or(Ok(()), |process| process.end(signal, STOP))
    }

    /// Stops node `n` if it runs, and starts it again on the same port; returns when it answers. When most of the nodes are
    /// down it would wait for them: [`Kafka::restart_all`] starts them together.
    ///
    /// # Errors
    /// As for [`Kafka::start`].
    pub fn restart(&mut self, n: usize) -> anyhow::Result<()> {
        self.stop_node(n)?;
        let at = self.at(n)?;
        self.launch(&[at])
    }

    /// Stops all nodes that run, and starts all; returns when they answer.
    ///
    /// # Errors
    /// As for [`Kafka::start`].
    pub fn restart_all(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch(&(0..self.nodes.len()).collect::<Vec<_>>())
    }

    /// Stops all nodes in order.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end_all(Signal::TERM)
    }

    fn end_all(&mut self, signal: Signal) -> anyhow::Result<()> {
        // All hear it before the first is waited for: the last one alone could not leave in order.
        self.processes().try_for_each(|process| process.identity().signal(signal))?;
        self.nodes.iter_mut().filter_map(|node| node.process.take()).try_for_each(|process| process.end(signal, STOP))
    }

    /// Stops node `n` (from 1) where it stands (SIGSTOP): it neither answers nor refuses.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn pause(&mut self, n: usize) -> anyhow::Result<()> {
        self.signal(n, Signal::STOP)
    }

    /// Lets node `n` go on.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn resume(&mut self, n: usize) -> anyhow::Result<()> {
        self.signal(n, Signal::CONT)
    }

    fn signal(&self, n: usize, signal: Signal) -> anyhow::Result<()> {
        let at = self.at(n)?;
        self.nodes[at].process.as_ref().map_or(Ok(()), |process| process.identity().signal(signal))
    }

    /// Lets it run on without this handle.
    pub(crate) fn leave(mut self) -> Vec<Identity> {
        self.nodes.iter_mut().filter_map(|node| node.process.take()).map(Process::leave).collect()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().filter_map(|node| node.process.as_ref())
    }

    fn at(&self, n: usize) -> anyhow::Result<usize> {
        n.checked_sub(1)
            .filter(|at| *at < self.nodes.len())
            .with_context(|| format!("there are {} nodes and no number {n}", self.nodes.len()))
    }

    /// All at once: each costs the start of a JVM.
    fn format(&self) -> anyhow::Result<()> {
        let cluster = conf::cluster_id()?;
        std::thread::scope(|scope| {
            let format = |node: &Node| {
                let mut command = self.programs.java(Speed::Start);
                command.args(["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", &cluster, "-c"]).arg(node.properties());
                output(&mut command).map(drop)
            };
            let running: Vec<_> = self.nodes.iter().map(|node| scope.spawn(move || format(node))).collect();
            running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_panic| bail!("formatting panicked")))
        })
    }

    /// Starts these nodes together, since one alone waits for a majority, and waits for all of them.
    fn launch(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for &at in which {
            let command = self.broker(&self.nodes[at]);
            let node = &mut self.nodes[at];
            node.process = Some(Process::spawn(command, &node.dir.join("log"), self.guarded)?);
        }
        for &at in which {
            self.nodes[at].wait()?;
        }
        Ok(())
    }

    fn broker(&self, node: &Node) -> Command {
        let mut broker = self.programs.java(self.speed);
        broker.arg("kafka.Kafka").arg(node.properties());
        broker
    }
}

impl Node {
    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// Until it says that it has started, and a request is answered.
    fn wait(&mut self) -> anyhow::Result<()> {
        let (id, port) = (self.id, self.port);
        let process = self.process.as_mut().with_context(|| format!("node {id} was not started"))?;
        let log = process.log().clone();
        let started = system::wait(START, || {
            if let Some(status) = process.ended()? {
                bail!("node {id} of Kafka did not start ({status}); {}", log.tail());
            }
            Ok((log.text().contains("Kafka Server started") && answers(port)).then_some(()))
        })?;
        started.with_context(|| format!("node {id} of Kafka did not start within {} s; {}", START.as_secs(), log.tail()))
    }
}

impl Drop for Kafka {
    /// At once (SIGKILL): whoever wants it in order says [`Kafka::stop`].
    fn drop(&mut self) {
        drop(self.end_all(Signal::KILL));
    }
}
