//! What was measured, and how it is shown: Markdown for people and documents, JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::load::Answers;

/// Stands for the figure of a round that has none, so that the others stay beside those of their rounds.
pub const NOT_MEASURED: f64 = f64::NAN;

/// Everything of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What ran where: pairs of a word and its value.
    pub circumstances: Vec<(String, String)>,
    pub measures: Vec<Measure>,
}

/// One question, and what everybody answered.
#[derive(Debug, Serialize)]
pub struct Measure {
    pub title: String,
    pub unit: &'static str,
    /// Whether a smaller figure is the better one.
    pub smaller_is_better: bool,
    pub lines: Vec<Line>,
    pub remarks: Vec<String>,
    pub goals: Vec<Goal>,
}

/// What the project wants to reach, and what it was this time.
#[derive(Debug, PartialEq, Serialize)]
pub struct Goal {
    pub what: String,
    pub at_least: &'static str,
    pub measured: String,
}

/// One contestant's figures, a round each.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Line {
    pub who: String,
    pub rounds: Vec<f64>,
    pub median: f64,
    /// The median of ours divided by this one, round by round.
    pub ours_to_this: Option<f64>,
    pub cpu_seconds_per_million: Option<f64>,
    pub loader_cpu_seconds_per_million: Option<f64>,
    pub syncs_per_million: Option<f64>,
    pub remark: String,
}

impl Line {
    pub fn new(who: impl Into<String>, rounds: Vec<f64>) -> Self {
        Self { who: who.into(), median: median(&rounds), rounds, ..Self::default() }
    }
}

impl Measure {
    /// The first line is the one that the others are compared with.
    pub fn new(title: impl Into<String>, unit: &'static str, lines: Vec<Line>) -> Self {
        let mut lines = lines;
        let ours = lines.first().map(|line| line.rounds.clone()).unwrap_or_default();
        for line in lines.iter_mut().skip(1) {
            // What was not measured is not greater than anything.
            let pairs = ours.iter().zip(&line.rounds).filter(|&(_, &theirs)| theirs > 0.0);
            let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
            line.ours_to_this = (!ratios.is_empty()).then(|| median(&ratios));
        }
        Self { title: title.into(), unit, smaller_is_better: false, lines, remarks: Vec::new(), goals: Vec::new() }
    }

    /// States a goal for the lines of these names: for the ratio where there is one.
    #[must_use]
    pub fn goal(mut self, who: &str, at_least: &'static str) -> Self {
        for line in self.lines.iter().filter(|line| line.who.starts_with(who)) {
            let (what, measured) = match line.ours_to_this {
                Some(ours) => (format!("to {}", line.who), ratio(ours)),
                None if line.rounds.is_empty() => (line.who.clone(), "not measured".to_owned()),
                None => (line.who.clone(), format!("{} {}", figure(line.median), self.unit)),
            };
            self.goals.push(Goal { what: format!("{}: {what}", self.title), at_least, measured });
        }
        self
    }

    /// The table, without the columns that nobody has anything for.
    fn table(&self, better: &str) -> String {
        let rounds = self.lines.iter().map(|line| line.rounds.len()).max().unwrap_or(0);
        let spread = if rounds > 1 { ": median (lowest to highest)" } else { "" };
        let figures = format!("{}{better}{spread}", self.unit);
        let heads = ["", &figures, "Lockstream to this", "CPU-s per million: server + loader", "syncs per million", ""];
        let mut columns = heads.map(|head| vec![head.to_owned()]).to_vec();
        for line in &self.lines {
            for (column, cell) in columns.iter_mut().zip(line.cells()) {
                column.push(cell);
            }
        }
        let is_filled = |column: &Vec<String>| column.iter().skip(1).any(|cell| !cell.is_empty());
        columns.retain(is_filled);
        let mut text = String::new();
        for row in 0..=self.lines.len() {
            let cells: Vec<&str> = columns.iter().map(|column| column[row].as_str()).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if row == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(columns.len()));
            }
        }
        text
    }
}

impl Line {
    fn cells(&self) -> [String; 6] {
        let figures = match bounds(&self.rounds) {
            Some((lowest, highest)) if self.rounds.len() > 1 => {
                format!("{} ({} to {})", figure(self.median), figure(lowest), figure(highest))
            }
            Some(_) => figure(self.median),
            None => "not measured".to_owned(),
        };
        let cpu = match (self.cpu_seconds_per_million, self.loader_cpu_seconds_per_million) {
            (Some(server), Some(loader)) => format!("{} + {}", figure(server), figure(loader)),
            (Some(server), None) => figure(server),
            _ => String::new(),
        };
        let ratio = self.ours_to_this.map_or_else(String::new, ratio);
        let syncs = self.syncs_per_million.map_or_else(String::new, figure);
        [self.who.clone(), figures, ratio, cpu, syncs, self.remark.clone()]
    }
}

/// Adds up the rounds of one contestant.
#[derive(Debug, Default)]
pub struct Tally {
    pub rates: Vec<f64>,
    events: u64,
    cpu: f64,
    loader_cpu: f64,
    refused: u64,
    put_off: u64,
    first_refusal: Option<String>,
}

impl Tally {
    pub fn add(&mut self, answers: &Answers, took: Duration, cpu: f64, loader_cpu: f64) {
        self.rates.push(answers.accepted as f64 / took.as_secs_f64());
        self.events += answers.accepted;
        self.cpu += cpu;
        self.loader_cpu += loader_cpu;
        self.refused += answers.refused;
        self.put_off += answers.put_off;
        self.first_refusal = self.first_refusal.take().or_else(|| answers.first_refusal.clone());
    }

    pub fn line(self, who: impl Into<String>, syncs: Option<u64>) -> Line {
        let million = self.events as f64 / 1e6;
        let mut remarks = Vec::new();
        if self.refused > 0 {
            let said: String = self.first_refusal.unwrap_or_default().chars().take(120).collect();
            remarks.push(format!("{} refused: {}", self.refused, said.replace('|', "/").trim()));
        }
        if self.put_off > 0 {
            remarks.push(format!("told 503 {} times", self.put_off));
        }
        let of_million = |value: f64| (million > 0.0).then(|| value / million);
        Line {
            cpu_seconds_per_million: of_million(self.cpu),
            loader_cpu_seconds_per_million: of_million(self.loader_cpu),
            syncs_per_million: syncs.and_then(|syncs| of_million(syncs as f64)),
            remark: remarks.join("; "),
            ..Line::new(who, self.rates)
        }
    }
}

impl Report {
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (word, value) in &self.circumstances {
            let _ = writeln!(text, "- {word}: {value}");
        }
        let mut goals = self.measures.iter().flat_map(|measure| &measure.goals).peekable();
        if goals.peek().is_some() {
            text.push_str("\n### In short\n\n| Lockstream | goal | measured |\n|---|---|---|\n");
        }
        for Goal { what, at_least, measured } in goals {
            let _ = writeln!(text, "| {what} | {at_least} | {measured} |");
        }
        for measure in &self.measures {
            let better = if measure.smaller_is_better { ", smaller is better" } else { "" };
            let _ = writeln!(text, "\n### {}\n", measure.title);
            text.push_str(&measure.table(better));
            for remark in &measure.remarks {
                let _ = writeln!(text, "\n{remark}");
            }
        }
        text
    }
}

/// The median of what was measured.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<_> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (_, middle) => sorted[middle],
    }
}

fn bounds(values: &[f64]) -> Option<(f64, f64)> {
    let measured = || values.iter().copied().filter(|value| !value.is_nan());
    Some((measured().min_by(f64::total_cmp)?, measured().max_by(f64::total_cmp)?))
}

/// The value below which this share of the durations lies, in milliseconds.
pub fn quantile_ms(durations: &mut [Duration], share: f64) -> f64 {
    durations.sort_unstable();
    let place = ((durations.len() as f64 * share).ceil() as usize).clamp(1, durations.len().max(1)) - 1;
    durations.get(place).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
}

fn ratio(value: f64) -> String {
    if value < 0.995 { format!("{:.1} %", value * 100.0) } else { format!("{value:.2} ×") }
}

/// Three figures that matter, and a mark for each thousand.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_ratios_of_each_round() {
        // given a machine that was half as fast in the second of three rounds
        let ours = Line::new("ours", vec![100.0, 50.0, 110.0]);
        let theirs = Line::new("theirs", vec![50.0, 25.0, 50.0]);
        let measure = Measure::new("rate", "events/s", vec![ours, theirs]);
        assert_eq!(measure.lines[1].ours_to_this, Some(2.0));
        assert_eq!(measure.lines[0].ours_to_this, None);
    }

    #[test]
    fn a_round_without_a_figure_counts_for_nothing_and_the_others_keep_their_places() {
        let ours = Line::new("ours", vec![100.0, 50.0, 110.0]);
        let theirs = Line::new("theirs", vec![50.0, NOT_MEASURED, 55.0]);
        let measure = Measure::new("rate", "ms", vec![ours, theirs]);
        assert_eq!(measure.lines[1].ours_to_this, Some(2.0));
        assert_eq!(measure.lines[1].cells()[1], "52.5 (50.0 to 55.0)");
    }

    #[test]
    fn a_goal_is_held_against_the_ratio_where_there_is_one() {
        let lines = vec![Line::new("ours", vec![3.0]), Line::new("theirs", vec![4.0])];
        let measure = Measure::new("rate", "events/s", lines).goal("theirs", "60 %").goal("ours", "2 events/s");
        let goals = measure.goals.iter().map(|goal| [goal.what.as_str(), goal.at_least, goal.measured.as_str()]);
        let expected = [["rate: to theirs", "60 %", "75.0 %"], ["rate: ours", "2 events/s", "3.00 events/s"]];
        assert_eq!(goals.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let mut hundred: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert!((quantile_ms(&mut hundred, 0.99) - 99.0).abs() < 1e-9);
        assert!((quantile_ms(&mut hundred, 0.5) - 50.0).abs() < 1e-9);
        assert!((quantile_ms(&mut hundred[..1], 0.99) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_shows_only_the_columns_that_are_filled() {
        let ours = Line::new("ours", vec![3.0]);
        let theirs = Line { syncs_per_million: Some(2_000.0), ..Line::new("theirs", vec![6.0]) };
        let table = Measure::new("rate", "events/s", vec![ours, theirs]).table("");
        let expected = "|  | events/s | Lockstream to this | syncs per million |\n|---|---|---|---|\n\
                        | ours | 3.00 |  |  |\n| theirs | 6.00 | 50.0 % | 2,000 |\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn figures_can_be_read() {
        assert_eq!([1.234, 12.34, 999.6, 1_234_567.0].map(figure), ["1.23", "12.3", "1,000", "1,234,567"]);
    }
}
