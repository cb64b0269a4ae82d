//! A letter in an editor, and back.
//!
//! Owns: the file that is edited. Does not know: what is wrong with the letter.
//! Invariant: what a person has written is not lost: where it was not taken in, its file stays and is named.

use super::letter::{self, path};
use super::to_look_and_change;
use super::work::{Printer, outcome};
use crate::cli::Edit;
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use anyhow::{Context, anyhow};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::NamedTempFile;

pub(super) fn edit(args: &Edit, environment: &Environment) -> Outcome {
    let mut client = Client::new(&args.remote, environment, to_look_and_change())?;
    let (letter, _) = letter::fetch(&mut client, &args.id)?;
    let Some(original) = letter.bytes()? else { return Err(anyhow!("the letter was discarded, and its bytes are gone").into()) };
    if letter.text().is_none() {
        let words = "its bytes are no text; `dead-letters show --raw` writes them, and `POST /v1/dead-letters/{id}/retry` takes others";
        return Err(anyhow!("{words}").into());
    }
    let kind = letter.kind();
    let Some(content_type) = args.content_type.as_deref().or(kind.map(|(kind, _)| kind)) else {
        return Err(Failure::Usage(format!("nobody can tell what `{}` is; say --content-type", output::sanitised(&letter.format))));
    };
    let file = file_of(&original, kind.map_or(".txt", |(_, suffix)| suffix))?;
    run_editor(environment.editor(), file.path())?;
    let edited = std::fs::read(file.path()).context("read the edited letter")?;
    if edited == original || edited.trim_ascii().is_empty() {
        return Err(anyhow!("nothing was changed, so nothing was sent").into());
    }
    let answer = client.post(&format!("{}/retry", path(&args.id)?), content_type, &edited);
    let row = answer.map_err(Failure::from).and_then(|answer| outcome(&answer));
    let mut printer = Printer::new(args.form.output());
    let ended = match row {
        Ok(row) => printer.rows(&[row]).map_err(Failure::from).and_then(|()| printer.end()),
        Err(failure) => Err(failure),
    };
    if ended.is_err() {
        let kept = file.into_temp_path().keep().context("keep the edited letter")?;
        output::message(&format!("what you have written is in {}", kept.display()));
    }
    ended
}

fn file_of(bytes: &[u8], suffix: &str) -> anyhow::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("dead-letter-").suffix(suffix).tempfile().context("make a file to edit")?;
    file.write_all(bytes).and_then(|()| file.flush()).context("write a file to edit")?;
    Ok(file)
}

/// Runs the editor as a shell would: it may have arguments.
fn run_editor(editor: &str, file: &Path) -> anyhow::Result<()> {
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file).status();
    let status = status.with_context(|| format!("run the editor `{editor}`"))?;
    if status.success() { Ok(()) } else { Err(anyhow!("the editor `{editor}` ended with {status}; nothing was sent")) }
}
