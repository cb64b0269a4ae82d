//! A file, or standard input, and what is around the readings in it.
//!
//! Owns: opening, decompressing, telling the format by the name. Does not know: rows.

use crate::cli::Format;
use anyhow::Context;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BUFFER_BYTES: usize = 256 << 10;

/// An opened file.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    progress: Progress,
    bytes: Option<u64>,
}

/// How much of a file has been read, in bytes as they are on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.0.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Source {
    /// Opens `path`; `-` is standard input.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let progress = Progress::default();
        if is_stdin(path) {
            let reader = Counted { inner: io::stdin(), progress: progress.clone() };
            return Ok(Self { reader: Box::new(reader), progress, bytes: None });
        }
        let file = File::open(path).context("open the file")?;
        let metadata = file.metadata().context("look at the file")?;
        anyhow::ensure!(!metadata.is_dir(), "is a directory");
        let bytes = metadata.is_file().then_some(metadata.len());
        let counted = Counted { inner: file, progress: progress.clone() };
        let reader: Box<dyn Read + Send> = match extension(path).as_deref() {
            Some("gz") => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, counted))),
            Some("zst") => Box::new(zstd::stream::read::Decoder::new(counted).context("begin to decompress")?),
            _ => Box::new(counted),
        };
        Ok(Self { reader, progress, bytes })
    }

    /// How many bytes it has on disk, where that is known.
    pub(super) const fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        self.reader
    }
}

/// What a file is written in, by its name.
pub(super) fn format_of(path: &Path) -> Result<Format, String> {
    let inner = match extension(path).as_deref() {
        Some("gz" | "zst") => path.file_stem().map(Path::new).and_then(extension),
        other => other.map(str::to_owned),
    };
    match inner.as_deref() {
        Some("csv") => Ok(Format::Csv),
        Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
        Some("lp" | "line") => Ok(Format::Line),
        _ if is_stdin(path) => Err("standard input has no name to tell its format by: say --format csv, ndjson or line".to_owned()),
        _ => Err(format!("{}: the name does not tell the format: say --format csv, ndjson or line", path.display())),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_format_is_told_by_the_name() {
        let of = |name: &str| format_of(Path::new(name));
        for (name, format) in [
            ("a.csv", Format::Csv),
            ("dir.x/readings.csv.gz", Format::Csv),
            ("A.CSV.ZST", Format::Csv),
            ("a.ndjson", Format::Ndjson),
            ("a.jsonl.gz", Format::Ndjson),
            ("a.lp", Format::Line),
            ("a.line.zst", Format::Line),
        ] {
            assert_eq!(of(name), Ok(format), "{name}");
        }
        for name in ["-", "a", "a.gz", "a.json", "csv"] {
            assert!(of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn compressed_files_are_read_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let text = "device,metric,ts,value\n".repeat(50_000);
        let gz = dir.path().join("a.csv.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let zst = dir.path().join("a.csv.zst");
        std::fs::write(&zst, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        for path in [gz, zst] {
            let source = Source::open(&path).unwrap();
            let (progress, bytes) = (source.progress(), source.bytes());
            let mut read = String::new();
            source.into_reader().read_to_string(&mut read).unwrap();
            assert!(read == text);
            assert_eq!(Some(progress.bytes()), bytes);
        }
    }
}
