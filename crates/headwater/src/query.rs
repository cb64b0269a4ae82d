//! `headwater stats | readings | latest | series`: the query API from a shell.
//!
//! Owns: flags → parameters. [`pages`] follows the cursor, [`table`], [`json`] and [`csv`] print. Does not know: what an answer means; the
//! server checks every parameter.

mod csv;
pub(crate) mod json;
pub(crate) mod pages;
pub(crate) mod table;

use crate::cli::{self, Asking, Output, Range};
use crate::client::Client;
use crate::environment::Environment;
use crate::failure::Outcome;
use crate::output;
use csv::Formulas;
use headwater_web::Scope;
use pages::Pages;
use std::io::Write;

const RAW: &str = "/v1/readings";

pub(crate) fn stats(args: &cli::Stats, environment: &Environment) -> Outcome {
    let mut parameters = Parameters::of(&args.asking);
    parameters.range(&args.range);
    parameters.optional("step", args.step.as_deref());
    parameters.optional("stats", args.stats.as_deref());
    parameters.optional("group_by", args.group_by.as_deref());
    parameters.optional("fill", args.fill.as_deref());
    ask(&args.asking, environment, Scope::ReadStats, "/v1/stats", parameters)
}

pub(crate) fn readings(args: &cli::Readings, environment: &Environment) -> Outcome {
    let mut parameters = Parameters::of(&args.asking);
    parameters.range(&args.range);
    ask(&args.asking, environment, Scope::ReadReadings, RAW, parameters)
}

pub(crate) fn latest(args: &cli::Series, environment: &Environment) -> Outcome {
    ask(&args.asking, environment, Scope::ReadReadings, "/v1/latest", Parameters::of(&args.asking))
}

pub(crate) fn series(args: &cli::Series, environment: &Environment) -> Outcome {
    ask(&args.asking, environment, Scope::ReadDevices, "/v1/series", Parameters::of(&args.asking))
}

fn ask(asking: &Asking, environment: &Environment, scope: Scope, path: &str, parameters: Parameters) -> Outcome {
    let mut client = Client::new(&asking.remote, environment, scope)?;
    let mut pages = Pages::new(&mut client, path, parameters.0, asking.limit);
    let mut out = output::data();
    // Raw readings are the ones that can be sent back.
    let formulas = if path == RAW { Formulas::AsTheyAre } else { Formulas::Guarded };
    match asking.output() {
        Output::Table => table::print(&mut pages, &mut out)?,
        Output::Json => json::print(&mut pages, &mut out)?,
        Output::Csv => csv::print(&mut pages, formulas, &mut out)?,
    }
    Ok(out.flush()?)
}

/// Parameters of a question, in the order of the flags.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(asking: &Asking) -> Self {
        let mut parameters = Self(Vec::new());
        asking.device.iter().for_each(|device| parameters.add("device", device));
        asking.metric.iter().for_each(|metric| parameters.add("metric", metric));
        asking.tag.iter().for_each(|(name, value)| parameters.add(&format!("tag.{name}"), value));
        parameters
    }

    fn range(&mut self, range: &Range) {
        self.optional("from", range.from.as_deref());
        self.optional("to", range.to.as_deref());
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}
