//! `explain`: a plan as a table, with the time of every instruction after a run. The tool for finding what is
//! slow.

use crate::buffer::{Buffer, vector};
use crate::error::{EngineError, Result};
use crate::network::LINE;
use crate::operand::{Access, Operand};
use crate::plan::Plan;
use crate::program::{Mode, ValueId};
use crate::session::{Precision, Session};
use crate::train::{Batch, StepOptions};
use crate::update::{Averaged, OptimizerState};
use fovea_kernels::loss::Targets;
use fovea_kernels::random::Philox;
use fovea_kernels::{Context, peak};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::mem::swap;
use std::time::{Duration, Instant};

/// A plan, and how fast it ran if it did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDescription {
    /// Name of the network.
    pub model: String,
    /// `infer`, `evaluate` or `train`.
    pub mode: &'static str,
    /// Images at once.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// Bytes of the memory that all feature maps, gradients and scratch buffers share.
    pub arena_bytes: u64,
    /// Bytes of the parameters, in the kernels' layout.
    pub parameter_bytes: u64,
    /// Floating-point operations of a step, a multiply-add being two.
    pub flops: u64,
    /// Fused multiply-add peak of all threads: the better of two measurements, before the timed steps and after
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_gflops: Option<f64>,
    /// Sum of the instructions' times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// One a instruction.
    pub rows: Vec<PlanRow>,
}

/// A way to compute a pass of a convolution.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanCandidate {
    /// `direct`, `scatter`, `packed` or `winograd`.
    pub algorithm: &'static str,
    /// Floating-point operations in whose time, at the peak of one thread, it should be done.
    pub cost: f64,
    /// Whether the plan has it.
    pub chosen: bool,
}

/// An instruction of a plan.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow {
    /// Its position.
    pub index: usize,
    /// What it does.
    pub instruction: &'static str,
    /// The node it works for.
    pub name: String,
    /// How it does it.
    pub algorithm: String,
    /// Shape of what it reads first.
    pub input: Vec<usize>,
    /// Shape of what it writes first.
    pub output: Vec<usize>,
    /// Floating-point operations of convolutions and dense layers, a multiply-add being two; 0 for the others.
    pub flops: u64,
    /// Bytes of the arena that it touches, scratch memory included.
    pub bytes: u64,
    /// The ways in which the pass of a convolution or dense layer can be computed, by the cost model that
    /// chooses among them; none for the others.
    pub candidates: Vec<PlanCandidate>,
    /// Whether the way was asked for instead of chosen.
    pub held: bool,
    /// Median of a few runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// The cost of the way over the fused multiply-add peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_milliseconds: Option<f64>,
    /// Its FLOP/s over the fused multiply-add peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_of_peak: Option<f64>,
}

/// Times of whole steps on a synthetic batch.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Benchmark {
    /// `infer`, `evaluate` or `train`.
    pub mode: &'static str,
    /// Images at once.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// Median time of a step.
    pub median_ms: f64,
    /// Fastest step.
    pub min_ms: f64,
    /// Slowest step.
    pub max_ms: f64,
    /// Steps timed.
    pub steps: usize,
    /// Images over the median time.
    pub images_per_second: f64,
    /// Floating-point operations of convolutions and dense layers over the median time.
    pub gflops: f64,
    /// Fused multiply-add peak of all threads: the better of two measurements, before the timed steps and after
    /// them.
    pub peak_gflops: f64,
}

/// How long `explain` runs a plan, unless it is slower.
const EXPLAIN_TIME: Duration = Duration::from_millis(500);

/// Runs that `explain` takes the median of: at least and at most.
const EXPLAIN_RUNS: (usize, usize) = (3, 101);

/// Steps before a benchmark's first timed one.
const WARM_UP: usize = 3;

/// Steps that a benchmark times at least, unless it is stopped.
const LEAST_STEPS: usize = 3;

/// Longest benchmark, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// What training changes.
#[derive(Default)]
struct Trained {
    parameters: Buffer,
    state: Buffer,
    batches: Vec<i64>,
    gradients: Buffer,
    accumulated: Buffer,
    optimizer: OptimizerState,
    averaged: Averaged,
    step: u64,
}

/// A batch that nobody photographed.
struct Synthetic {
    images: Vec<f32>,
    /// Where the mode has a loss.
    labels: Vec<u32>,
    /// Where it judges maps, too, whose loss takes no labels.
    values: Vec<f32>,
}

impl Synthetic {
    fn targets(&self) -> Targets<'_> {
        if self.values.is_empty() { Targets::Labels(&self.labels) } else { Targets::Values(&self.values) }
    }
}

impl Session {
    /// The plan of a mode and batch size; with `run`, the plan also runs on a synthetic batch and the rows have
    /// times.
    ///
    /// Parameters, statistics and optimizer state stay as they are, whatever the gradients. Errors: whatever
    /// prevents the plan or the run: several outputs of which some are maps and others are not have no targets
    /// in common.
    pub fn explain(&mut self, mode: Mode, batch: usize, run: bool) -> Result<PlanDescription> {
        let index = self.plan(mode, batch)?;
        let plan = self.plan_at(index);
        let rows: Vec<_> = (0..plan.program.instructions.len()).map(|at| self.row(plan, at)).collect();
        let mut description = PlanDescription {
            model: self.graph().name.clone(),
            mode: mode.name(),
            batch,
            threads: self.threads(),
            isa: self.isa.name(),
            arena_bytes: bytes(plan.arena_len),
            parameter_bytes: bytes(self.network.parameters.len),
            flops: rows.iter().map(|row| row.flops).sum(),
            peak_gflops: None,
            milliseconds: None,
            rows,
        };
        if run {
            let before = self.fma_peak();
            let times = self.instruction_times(index, mode, batch)?;
            let peak = before.max(self.fma_peak());
            for (row, &milliseconds) in description.rows.iter_mut().zip(&times) {
                let gflops = row.flops as f64 / (milliseconds * 1e6).max(f64::MIN_POSITIVE);
                row.milliseconds = Some(milliseconds);
                let chosen = row.candidates.iter().find(|candidate| candidate.chosen);
                row.predicted_milliseconds = chosen.map(|candidate| candidate.cost / peak / 1e6);
                row.percent_of_peak = (row.flops > 0).then_some(100.0 * gflops / peak);
            }
            description.milliseconds = Some(times.iter().sum());
            description.peak_gflops = Some(peak);
        }
        Ok(description)
    }

    /// Times steps of a synthetic batch for about `seconds` and at least three steps, or until `stop` says so;
    /// compiling and the first steps are not timed, one step always is.
    ///
    /// Parameters, statistics and optimizer state stay as they are. Errors: whatever prevents the step, seconds
    /// out of range.
    pub fn benchmark(
        &mut self,
        mode: Mode,
        batch: usize,
        seconds: f64,
        stop: impl Fn() -> bool,
    ) -> Result<Benchmark> {
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            return Err(EngineError::argument("seconds", format!("0 to {MAX_SECONDS}"), seconds));
        }
        let flops = self.explain(mode, batch, false)?.flops;
        let synthetic = self.synthetic(mode, batch)?;
        let Synthetic { images, labels, .. } = &synthetic;
        let results = if mode == Mode::Infer { batch * self.output_len() } else { 0 };
        let mut output = vector(results, "a benchmark's results", std::iter::repeat(0.0))?;
        let mut predictions = vec![0; labels.len()];
        let options = StepOptions { learning_rate: 0.0, ..StepOptions::default() };
        let mut step = |session: &mut Self| match mode {
            Mode::Infer => session.infer_batch(images, batch, &mut output),
            Mode::Evaluate => session.evaluate_batch(images, labels, &mut predictions).map(drop),
            Mode::Train => session.train_step(images, synthetic.targets(), &options).map(drop),
        };
        let mut peak = 0.0f64;
        let mut times = self.on_copies(mode, |session| {
            (0..WARM_UP).try_for_each(|_| step(session))?;
            peak = session.fma_peak();
            let (begin, mut times) = (Instant::now(), Vec::new());
            let goes_on = |steps| steps < LEAST_STEPS || begin.elapsed().as_secs_f64() < seconds;
            while times.is_empty() || (goes_on(times.len()) && !stop()) {
                let start = Instant::now();
                step(session)?;
                times.push(milliseconds(start.elapsed()));
            }
            peak = peak.max(session.fma_peak());
            Ok(times)
        })?;
        let median_ms = median(&mut times);
        Ok(Benchmark {
            mode: mode.name(),
            batch,
            threads: self.threads(),
            isa: self.isa.name(),
            median_ms,
            min_ms: times[0],
            max_ms: times[times.len() - 1],
            steps: times.len(),
            images_per_second: batch as f64 / median_ms * 1e3,
            gflops: flops as f64 / median_ms / 1e6,
            peak_gflops: peak,
        })
    }

    /// GFLOP/s of all threads on fused multiply-adds alone.
    fn fma_peak(&self) -> f64 {
        peak::fma_peak(Context { isa: self.isa, pool: &self.pool })
    }

    /// Median milliseconds of each instruction.
    fn instruction_times(&mut self, plan: usize, mode: Mode, batch: usize) -> Result<Vec<f64>> {
        let synthetic = self.synthetic(mode, batch)?;
        let (images, targets) = (&synthetic.images, synthetic.targets());
        if mode != Mode::Infer {
            self.check_batch(images, targets, self.judged(mode))?;
        }
        let batch = Batch::new(images, batch, targets);
        let mut durations = vec![Duration::ZERO; self.plan_at(plan).program.instructions.len()];
        let runs = self.on_copies(mode, |session| {
            session.time(plan, &batch, &mut durations)?; // warms up
            let (begin, mut runs) = (Instant::now(), Vec::new());
            while runs.len() < EXPLAIN_RUNS.0
                || (runs.len() < EXPLAIN_RUNS.1 && begin.elapsed() < EXPLAIN_TIME)
            {
                session.time(plan, &batch, &mut durations)?;
                runs.push(durations.clone());
            }
            Ok(runs)
        })?;
        let of_instruction = |at: usize| runs.iter().map(|run| milliseconds(run[at])).collect::<Vec<_>>();
        Ok((0..durations.len()).map(|at| median(&mut of_instruction(at))).collect())
    }

    /// Runs `work` on copies of all that training changes: with a learning rate of zero an update still writes
    /// a NaN where a gradient is none, and a positive zero in place of a negative one.
    ///
    /// Errors: those of `work`, more memory than the system gives.
    fn on_copies<T>(&mut self, mode: Mode, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if mode != Mode::Train {
            return work(self);
        }
        let purpose = "a copy of the parameters";
        let mut other = Trained {
            parameters: self.parameters.copied(purpose)?,
            state: self.state.copied(purpose)?,
            batches: self.batches.clone(),
            step: self.step,
            ..Trained::default()
        };
        self.swap_trained(&mut other);
        let result = work(self);
        self.swap_trained(&mut other);
        result
    }

    fn swap_trained(&mut self, other: &mut Trained) {
        swap(&mut self.parameters, &mut other.parameters);
        swap(&mut self.state, &mut other.state);
        swap(&mut self.batches, &mut other.batches);
        swap(&mut self.gradients, &mut other.gradients);
        swap(&mut self.accumulated, &mut other.accumulated);
        swap(&mut self.optimizer, &mut other.optimizer);
        swap(&mut self.averaged, &mut other.averaged);
        swap(&mut self.step, &mut other.step);
        self.version += 1;
    }

    /// Outputs that a mode judges, from the first on.
    fn judged(&self, mode: Mode) -> usize {
        match mode {
            Mode::Infer => 0,
            Mode::Evaluate => 1,
            Mode::Train => self.network.outputs.len(),
        }
    }

    /// Images uniform on [0, 1), and what the outputs that the mode judges should be. Errors: more memory than
    /// the system gives.
    fn synthetic(&self, mode: Mode, batch: usize) -> Result<Synthetic> {
        let random = Philox { seed: 0, stream: u64::MAX };
        let uniform = |each| {
            let values = (0..).map(|index| random.uniform(index));
            vector(batch * each, "a synthetic batch", values)
        };
        let shapes = (0..self.judged(mode)).map(|output| self.output_shape(output));
        let of_maps = shapes.clone().any(|shape| shape[..2] != [1, 1]);
        let classes = shapes.clone().map(|shape| shape[2]).min().unwrap_or(1) as u32;
        let labels = if mode == Mode::Infer { 0 } else { batch as u32 };
        Ok(Synthetic {
            images: uniform(self.image_len())?,
            labels: (0..labels).map(|image| image % classes).collect(),
            values: uniform(if of_maps { self.output_len() } else { 0 })?,
        })
    }

    fn row(&self, plan: &Plan, index: usize) -> PlanRow {
        let instruction = &plan.program.instructions[index];
        let parameters = vec![self.network.parameters.len];
        let (mut read, mut written, mut touched) = (None, None, plan.scratch(index).len());
        let operands = instruction.operands();
        for Operand { value, access, .. } in operands.iter() {
            touched += plan.span(value).len();
            let first = if access == Access::Read { &mut read } else { &mut written };
            first.get_or_insert(value);
        }
        let shape = |value: Option<ValueId>| {
            value.map_or_else(|| parameters.clone(), |value| plan.slot(value).shape.to_vec())
        };
        let name = written.or(read).map_or_else(String::new, |value| plan.program[value].name.clone());
        let mut row = PlanRow {
            index,
            instruction: instruction.name(),
            name,
            algorithm: String::new(),
            input: shape(read),
            output: shape(written),
            flops: 0,
            bytes: bytes(touched.next_multiple_of(LINE)),
            candidates: Vec::new(),
            held: false,
            milliseconds: None,
            predicted_milliseconds: None,
            percent_of_peak: None,
        };
        let strict = self.precision() == Precision::Strict;
        instruction.explain(&About { plan, strict }, &mut row);
        let place = |operand: Operand| plan.slot(operand.value).place;
        let in_place = operands.writes().any(|y| operands.reads().any(|x| place(x) == place(y)));
        let mut remarks = instruction.remarks();
        remarks.extend(in_place.then(|| "in place".to_owned()));
        remarks.extend(row.held.then(|| "as asked".to_owned()));
        for remark in remarks {
            row.algorithm += if row.algorithm.is_empty() { "" } else { ", " };
            row.algorithm += &remark;
        }
        row
    }
}

/// What an instruction's row in the table depends on.
pub(crate) struct About<'a> {
    pub plan: &'a Plan,
    /// Whether Winograd's algorithm is forbidden.
    pub strict: bool,
}

fn bytes(floats: usize) -> u64 {
    (floats * size_of::<f32>()) as u64
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Sorts the values and returns the middle one; zero when there is none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Display for PlanDescription {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { model, mode, batch, threads, isa, .. } = self;
        writeln!(f, "{model}: {mode}, batch {batch}, {threads} threads, {isa}")?;
        let headings = [
            "#",
            "instruction",
            "name",
            "algorithm",
            "costs",
            "input",
            "output",
            "MFLOP",
            "KB",
            "ms",
            "% peak",
        ];
        let optional =
            |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        let cells = |row: &PlanRow| {
            [
                row.index.to_string(),
                row.instruction.to_owned(),
                row.name.clone(),
                row.algorithm.clone(),
                costs(&row.candidates),
                shape(&row.input),
                shape(&row.output),
                if row.flops > 0 { format!("{:.2}", row.flops as f64 / 1e6) } else { String::new() },
                (row.bytes / 1024).to_string(),
                optional(row.milliseconds, 4),
                optional(row.percent_of_peak, 1),
            ]
        };
        let table: Vec<_> =
            [headings.map(str::to_owned)].into_iter().chain(self.rows.iter().map(cells)).collect();
        let columns = if self.milliseconds.is_some() { headings.len() } else { headings.len() - 2 };
        let widths: Vec<_> = (0..columns)
            .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &table {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let numeric = column == 0 || column >= 7;
                line += &if numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "arena {:.2} MB, ", megabytes(self.arena_bytes))?;
        write!(
            f,
            "parameters {:.2} MB, {:.2} MFLOP",
            megabytes(self.parameter_bytes),
            self.flops as f64 / 1e6
        )?;
        if let (Some(milliseconds), Some(peak)) = (self.milliseconds, self.peak_gflops) {
            let percent = self.flops as f64 / (milliseconds * 1e6).max(f64::MIN_POSITIVE) / peak * 100.0;
            write!(f, ", {milliseconds:.3} ms, {percent:.1} % of a peak of {peak:.0} GFLOP/s")?;
        }
        Ok(())
    }
}

/// `direct 1890, *winograd 812`, in millions of operations; nothing where there is no choice.
fn costs(candidates: &[PlanCandidate]) -> String {
    let cost = |PlanCandidate { algorithm, cost, chosen }: &PlanCandidate| {
        format!("{}{algorithm} {:.1}", if *chosen { "*" } else { "" }, cost / 1e6)
    };
    let costs: Vec<_> = candidates.iter().map(cost).collect();
    if costs.len() > 1 { costs.join(", ") } else { String::new() }
}

/// `64x28x28x6`.
fn shape(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
