//! Kafka's archives from Maven, a Java to run them, and an archive of loaded classes that makes starts fast.
//!
//! Owns: which version. Invariants: a folder with our version's name is complete (it is filled under another name first);
//! nothing is downloaded twice.

use super::{Kafka, Options, Speed};
use crate::system::{self, output};
use crate::{Folder, places};
use anyhow::{Context, ensure};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The newest version of which both the broker and its tools can be had.
pub(crate) const VERSION: &str = "4.3.1";
const OLDEST_JAVA: u32 = 17;
const INSTEAD: &str = "set KAFKA_BROKERS to a Kafka that runs";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Programs {
    java: PathBuf,
    libs: PathBuf,
    /// Classes as the JVM has them in memory after a start; belongs to one version of Java.
    classes: PathBuf,
    /// What the JVM should do with it.
    classes_option: &'static str,
}

/// Installs Java (Debian's packages) and Kafka (Maven's archives) where they are missing, and prepares fast starts.
///
/// # Errors
/// With what to install by hand, where that cannot be done.
pub fn install() -> anyhow::Result<Programs> {
    let _lock = places::lock("install-kafka.lock")?;
    let dir = places::cache().join(format!("kafka-{VERSION}"));
    let (java, version) = java()?;
    let libs = dir.join("libs");
    if !libs.exists() {
        download(&dir, &libs)?;
    }
    let logging = dir.join("log4j2.xml");
    // Not when it is there already: the folder may be another user's.
    if fs::read_to_string(&logging).ok().as_deref() != Some(LOGGING) {
        fs::write(&logging, LOGGING).with_context(|| format!("write {}", logging.display()))?;
    }
    let programs = Programs { java, libs, classes: dir.join(format!("java-{version}.jsa")), classes_option: "SharedArchiveFile" };
    if !programs.classes.exists() {
        programs.learn_classes()?;
    }
    Ok(programs)
}

impl Programs {
    /// A JVM with Kafka's archives, before the name of the class that it runs.
    pub(super) fn java(&self, speed: Speed) -> Command {
        let mut java = Command::new(&self.java);
        java.arg("-XX:+UseSerialGC").arg(format!("-XX:{}={}", self.classes_option, self.classes.display()));
        match speed {
            Speed::Start => java.args(["-Xms128m", "-Xmx384m", "-XX:TieredStopAtLevel=1"]),
            Speed::Run => java.args(["-Xms1g", "-Xmx1g"]),
        };
        let logging = self.libs.with_file_name("log4j2.xml");
        java.arg(format!("-Dlog4j2.configurationFile=file:{}", logging.display()));
        java.arg("-cp").arg(self.libs.join("*"));
        java
    }

    /// Starts a broker that writes its classes down when it stops.
    fn learn_classes(&self) -> anyhow::Result<()> {
        let folder = Folder::new("kafka-classes")?;
        let learning = self.libs.with_file_name(format!("classes-{}.tmp", std::process::id()));
        let mut kafka = Kafka::formatted(self.clone(), folder.path(), 1, &Options::default(), true)?;
        kafka.programs = Self { classes: learning.clone(), classes_option: "ArchiveClassesAtExit", ..self.clone() };
        kafka.launch(&[0])?;
        let process = kafka.nodes[0].process.take().context("the broker whose classes are learned")?;
        let log = process.log().clone();
        process.end(Signal::TERM, Duration::from_secs(180))?;
        ensure!(learning.exists(), "Java did not write its classes down; {}", log.tail());
        fs::rename(&learning, &self.classes).with_context(|| format!("name {}", self.classes.display()))
    }
}

/// A Java that is recent enough, and its version.
fn java() -> anyhow::Result<(PathBuf, String)> {
    if let Some(found) = find_java() {
        return Ok(found);
    }
    system::apt_install(&["default-jre-headless"], &format!("Java {OLDEST_JAVA} or later is missing"), INSTEAD)?;
    find_java().with_context(|| format!("Java was installed, but no java on the path is version {OLDEST_JAVA} or later"))
}

fn find_java() -> Option<(PathBuf, String)> {
    let java = places::program("java")?;
    // The file `release` beside it says which; asking the program itself takes longer.
    let release = java.parent()?.parent()?.join("release");
    let version = fs::read_to_string(release).ok().and_then(|text| version_of(&text)).or_else(|| asked(&java))?;
    (major(&version)? >= OLDEST_JAVA).then_some((java, version))
}

fn asked(java: &Path) -> Option<String> {
    let said = Command::new(java).arg("-version").output().ok()?;
    String::from_utf8_lossy(&said.stderr).split('"').nth(1).map(str::to_owned)
}

/// `JAVA_VERSION="17.0.15"` → 17.0.15.
fn version_of(release: &str) -> Option<String> {
    let line = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    Some(line.trim().trim_matches('"').to_owned())
}

fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn download(dir: &Path, libs: &Path) -> anyhow::Result<()> {
    if places::program("mvn").is_none() {
        system::apt_install(&["maven"], "Maven, which fetches Kafka, is missing", INSTEAD)?;
    }
    let unfinished = dir.join("libs.tmp");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let project = dir.join("pom.xml");
    fs::write(&project, pom()).with_context(|| format!("write {}", project.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(&project);
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]).arg(format!("-DoutputDirectory={}", unfinished.display()));
    output(&mut maven).with_context(|| format!("fetch Kafka {VERSION} by Maven; without a network, {INSTEAD}"))?;
    fs::rename(&unfinished, libs).with_context(|| format!("name {}", libs.display()))
}

/// The broker, its command line tools (for people), and a logger that fits the version of slf4j that Kafka has.
fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n")
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
    ];
    format!(
        "<project><modelVersion>4.0.0</modelVersion>\n\
         <groupId>headwater</groupId><artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{}</dependencies></project>\n",
        dependencies.concat()
    )
}

const LOGGING: &str = r#"<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java_are_read() {
        let release = "IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\nJAVA_VERSION_DATE=\"2025-04-15\"\n";
        assert_eq!(version_of(release).as_deref(), Some("17.0.15"));
        assert_eq!([major("17.0.15"), major("21"), major("1.8.0_392"), major("x")], [Some(17), Some(21), Some(1), None]);
    }

    #[test]
    fn broker_and_tools_are_of_one_version() {
        assert_eq!(pom().matches(VERSION).count(), 2);
    }
}
