//! Graph to forward program: a few instructions a node, in the graph's order, as its operation appends them.

use crate::error::{GraphError, Result};
use crate::graph::{Output, OutputLoss, Source, needed};
use crate::instruction::Instruction;
use crate::network::Network;
use crate::objective::Loss;
use crate::ops::Op;
use crate::order::Reorder;
use crate::program::{Extent, Kind, Mode, Program, ValueId};

/// What a node appends to a program that it is part of: it is told the values that it reads, and returns its
/// own.
pub(crate) type Lower = Box<dyn Fn(&mut Lowering, &[ValueId]) -> Result<ValueId> + Send + Sync>;

/// A node of one instruction that reads a value and writes one.
pub(crate) fn one(make: impl Fn(ValueId, ValueId) -> Instruction + Send + Sync + 'static) -> Result<Lower> {
    Ok(Box::new(move |lowering, inputs| {
        let y = lowering.output();
        lowering.emit(make(inputs[0], y));
        Ok(y)
    }))
}

/// A node of one instruction that reads two values and writes one.
pub(crate) fn two(
    make: impl Fn(ValueId, ValueId, ValueId) -> Instruction + Send + Sync + 'static,
) -> Result<Lower> {
    Ok(Box::new(move |lowering, inputs| {
        let y = lowering.output();
        lowering.emit(make(inputs[0], inputs[1], y));
        Ok(y)
    }))
}

/// The forward program of a mode: to the first output when inferring, to the loss of the first output when
/// evaluating, to the losses of all outputs when training.
///
/// Errors: an output that has no loss, when the mode asks for one.
pub(crate) fn lower(network: &Network, mode: Mode) -> Result<Program> {
    let outputs = if mode == Mode::Train { &network.outputs[..] } else { &network.outputs[..1] };
    let needed = needed(&network.sources, outputs);
    let mut lowering = Lowering { network, mode, node: 0, program: Program::new(network.graph.input) };
    let mut values: Vec<Option<ValueId>> = vec![None; network.layers.len()];
    for index in (0..network.layers.len()).filter(|&index| needed[index]) {
        let inputs = network.sources[index].iter().map(|source| match *source {
            Source::Input => Program::INPUT,
            // A node is lowered after what it reads, which is needed since the node is.
            Source::Node(source) => values[source].unwrap_or(Program::INPUT),
        });
        let inputs: Vec<_> = inputs.collect();
        lowering.node = index;
        values[index] = Some((network.layers[index])(&mut lowering, &inputs)?);
    }
    let mut results = Vec::with_capacity(outputs.len());
    for (&output, order) in outputs.iter().zip(&network.output_orders) {
        let Some(mut value) = values[output] else { continue };
        if let Some(order) = order {
            // Labels, losses and callers count as files do.
            lowering.node = output;
            let (x, len) = (value, network.shapes.nodes[output].output[2]);
            value = lowering.output();
            lowering.emit(Reorder::outside(order, len, x, value));
        }
        results.push((output, value));
    }
    let mut program = lowering.program;
    if mode != Mode::Train {
        program.results.extend(results.iter().map(|&(_, value)| value));
    }
    if mode != Mode::Infer {
        for (output, &(node, logits)) in results.iter().enumerate() {
            let Output { loss, loss_weight, .. } = network.graph.outputs[output];
            check_outputs(network, node, loss)?;
            let weight = if mode == Mode::Train { loss_weight } else { 1.0 };
            program.instructions.push(Instruction::Loss(Loss {
                output,
                loss,
                logits,
                dlogits: None,
                weight,
            }));
        }
    }
    program.backward = program.instructions.len();
    program.update = program.backward;
    Ok(program)
}

/// A program under way, and the node whose turn it is.
pub(crate) struct Lowering<'a> {
    pub network: &'a Network,
    pub mode: Mode,
    pub program: Program,
    node: usize,
}

impl Lowering<'_> {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.network.graph.nodes[self.node].name
    }

    /// A value for what the node writes.
    pub fn output(&mut self) -> ValueId {
        let shape = self.network.shapes.nodes[self.node].output;
        self.value(Kind::Activation, Extent::PerImage(shape))
    }

    /// A value that the node's instructions need.
    pub fn value(&mut self, kind: Kind, extent: Extent) -> ValueId {
        let name = self.name().to_owned();
        self.program.value(name, kind, extent)
    }

    /// Appends an instruction.
    pub fn emit(&mut self, instruction: Instruction) {
        self.program.instructions.push(instruction);
    }
}

/// A loss of classes wants one row of logits an image.
fn check_outputs(network: &Network, node: usize, loss: OutputLoss) -> Result<()> {
    let shape = &network.shapes.nodes[node];
    if !loss.is_of_classes() {
        return Ok(());
    }
    if let Op::Softmax(_) = network.graph.nodes[node].op {
        return Err(GraphError::Softmax(shape.name.clone()).into());
    }
    if shape.output[..2] != [1, 1] {
        let (node, received) = (shape.name.clone(), shape.output);
        return Err(GraphError::NotLogits { node, received }.into());
    }
    Ok(())
}
