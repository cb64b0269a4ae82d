//! `cargo xtask servers install | start | status | env | stop`: one Kafka and one PostgreSQL for tests, without containers.
//!
//! Owns: what is printed. Does not know: how servers are installed and run (crate `headwater-servers`).

use anyhow::bail;
use headwater_servers::shared;
use std::time::Instant;

/// The task.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [what] if what == "install" => install(),
        [what] if what == "start" => start(),
        [what] if what == "status" => status(),
        [what] if what == "env" => env(),
        [what] if what == "stop" => shared::stop(),
        _ => bail!("say one of: servers install, servers start, servers status, servers env, servers stop"),
    }
}

fn install() -> anyhow::Result<()> {
    let from = Instant::now();
    headwater_servers::install_postgres()?;
    headwater_servers::install_kafka()?;
    println!("PostgreSQL and Kafka are installed ({:.1} s)", from.elapsed().as_secs_f64());
    Ok(())
}

fn start() -> anyhow::Result<()> {
    shared::start()?;
    status()?;
    println!("for tests: eval \"$(cargo xtask servers env)\"");
    Ok(())
}

fn status() -> anyhow::Result<()> {
    for line in shared::status()? {
        println!("{line}");
    }
    Ok(())
}

/// For `eval`, so the values are quoted for a shell.
fn env() -> anyhow::Result<()> {
    for (name, value) in shared::addresses()?.variables() {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    Ok(())
}
