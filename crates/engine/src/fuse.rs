//! Fusion: fewer passes over memory, the same numbers.
//!
//! - A ReLU on either side of a max-pooling becomes part of it: `relu(maxPool(z))` equals `maxPool(relu(z))`
//!   because ReLU is monotonic. The pooled map is the smaller one, and the gradient is masked while it is
//!   scattered, through `y > 0`: where the maximum is positive the same tap wins on both sides, elsewhere no
//!   gradient passes.
//! - In training, a max-pooling that alone reads a batch normalization becomes part of it, which then writes
//!   the smaller map only.
//! - Outside training, a batch normalization that alone reads a convolution becomes part of its weight and
//!   bias, which changes the rounding: the only fusion that does.
//! - A ReLU, or another function that kernels compute on the way, that alone reads a sum, a batch normalization
//!   or a convolution becomes part of it.
//! - A sum that alone reads a batch normalization, or outside training a convolution, becomes part of it: the
//!   other operand is its residual.
//! - Outside training, a depthwise convolution that only a 1 x 1 convolution reads is computed with it, band by
//!   band, where the batch is large enough ([`join_separable`]).
//! - A sum of gradients that alone reads the input gradient of a convolution becomes part of it likewise.
//!
//! The order matters: in training, a convolution whose ReLU moved into the pool has no mask to apply in its
//! backward pass, and a sum takes its ReLU along into the normalization. All but the last work on forward
//! programs; [`autodiff`](crate::autodiff) differentiates what they leave.

use crate::instruction::Instruction;
use crate::ops::function::{Derivative, Function, Fused};
use crate::ops::separable::{self, Stage, separable};
use crate::ops::{convolution, max_pool};
use crate::program::{Mode, Program, ValueId};
use fovea_kernels::Activation;
use fovea_kernels::conv2d::Pass;
use std::sync::Arc;

/// Applies every fusion that a mode allows.
pub(crate) fn fuse(program: &mut Program, mode: Mode) {
    absorb(program, relu_into_max_pool);
    match mode {
        Mode::Train => absorb(program, max_pool_into_batch_norm),
        Mode::Infer | Mode::Evaluate => absorb(program, batch_norm_into_convolution),
    }
    absorb(program, |program, index| function_into_sum(program, index, mode));
    absorb(program, sum_into_batch_norm);
    if mode != Mode::Train {
        absorb(program, sum_into_convolution);
    }
    absorb(program, |program, index| function_into_batch_norm(program, index, mode));
    absorb(program, |program, index| function_into_convolution(program, index, mode));
    program.backward = program.instructions.len();
    program.update = program.backward;
}

/// Joins depthwise convolutions with the 1 x 1 convolutions behind them, for a batch and a number of threads,
/// except layers that are held to an algorithm. For programs without a backward pass, once their algorithms are
/// chosen.
pub(crate) fn join_separable(program: &mut Program, batch: usize, threads: usize) {
    absorb(program, |program, index| depthwise_into_convolution(program, index, batch, threads));
    program.backward = program.instructions.len();
    program.update = program.backward;
}

/// Applies the fusions of a training program to its backward instructions.
pub(crate) fn fuse_gradients(program: &mut Program) {
    let before = program.instructions.len();
    absorb(program, sum_into_input_gradient);
    program.update -= before - program.instructions.len();
}

/// Removes every instruction that `fusion` makes part of another; it is told the position.
fn absorb(program: &mut Program, fusion: impl Fn(&mut Program, usize) -> Option<()>) {
    let mut index = 0;
    while index < program.instructions.len() {
        match fusion(program, index) {
            Some(()) => drop(program.instructions.remove(index)),
            None => index += 1,
        }
    }
}

fn relu_into_max_pool(program: &mut Program, index: usize) -> Option<()> {
    let (relu, relu_x, relu_y) = function(program, index)?;
    relu.activation().filter(|&activation| activation == Activation::Relu)?;
    let behind = sole_reader(program, relu_y);
    if let Some(Instruction::MaxPool(pool)) = behind.map(|at| &mut program.instructions[at]) {
        (pool.x, pool.function) = (relu_x, Fused::new(&relu));
        return Some(());
    }
    match sole_source(program, relu_x)? {
        Instruction::MaxPool(pool) => {
            (pool.y, pool.function) = (relu_y, Fused::new(&relu));
            Some(())
        }
        _ => None,
    }
}

fn max_pool_into_batch_norm(program: &mut Program, index: usize) -> Option<()> {
    let Instruction::MaxPool(max_pool::Forward { layer, x, y: pooled, function, .. }) =
        &program.instructions[index]
    else {
        return None;
    };
    let (layer, x, pooled, function) = (Arc::clone(layer), *x, *pooled, function.clone());
    match sole_source(program, x)? {
        Instruction::BatchNorm(norm) if norm.is_plain() => {
            (norm.pool, norm.y, norm.function) = (Some(layer), pooled, function);
            Some(())
        }
        _ => None,
    }
}

fn batch_norm_into_convolution(program: &mut Program, index: usize) -> Option<()> {
    let Instruction::BatchNorm(norm) = &program.instructions[index] else { return None };
    let (layer, x, y) = (Arc::clone(&norm.layer), norm.x, norm.y);
    match sole_source(program, x)? {
        Instruction::Convolution(call) if call.folded.is_none() && call.function.is_none() => {
            (call.folded, call.y) = (Some(layer), y);
            Some(())
        }
        _ => None,
    }
}

fn function_into_sum(program: &mut Program, index: usize, mode: Mode) -> Option<()> {
    let (function, x, y) = fusible(program, index, mode)?;
    match sole_source(program, x)? {
        Instruction::Add(sum) if sum.function.is_none() => {
            (sum.y, sum.function) = (y, Fused::new(&function));
            Some(())
        }
        _ => None,
    }
}

/// The normalization takes the place of the sum, which comes behind its residual. In training, only a ReLU may
/// come with the sum: the gradient passes it by a mask.
fn sum_into_batch_norm(program: &mut Program, index: usize) -> Option<()> {
    let Instruction::Add(sum) = &program.instructions[index] else { return None };
    let (operands, sum_y, function) = ([sum.a, sum.b], sum.y, sum.function.clone());
    let masks = matches!(function.activation(), Activation::None | Activation::Relu);
    let plain = |instruction: &Instruction| match instruction {
        Instruction::BatchNorm(norm) => norm.is_plain() && (norm.saved.is_none() || masks),
        _ => false,
    };
    let (at, other) = sole_writer(program, operands, plain)?;
    if let Instruction::BatchNorm(norm) = &mut program.instructions[at] {
        (norm.residual, norm.y, norm.function) = (Some(other), sum_y, function);
    }
    // It moves to right before the sum, which goes.
    program.instructions[at..index].rotate_left(1);
    Some(())
}

/// As [`sum_into_batch_norm`], for a convolution. There is no derivative of it.
fn sum_into_convolution(program: &mut Program, index: usize) -> Option<()> {
    let Instruction::Add(sum) = &program.instructions[index] else { return None };
    let (operands, sum_y, function) = ([sum.a, sum.b], sum.y, sum.function.clone());
    let plain = |instruction: &Instruction| match instruction {
        Instruction::Convolution(call) if call.residual.is_none() && call.function.is_none() => {
            call.layer.kernel.adds_residual()
        }
        _ => false,
    };
    let (at, other) = sole_writer(program, operands, plain)?;
    if let Instruction::Convolution(call) = &mut program.instructions[at] {
        (call.residual, call.y, call.function) = (Some(other), sum_y, function);
    }
    program.instructions[at..index].rotate_left(1);
    Some(())
}

/// The input gradient stays where it is, so the other share must have been there before: it is the first.
fn sum_into_input_gradient(program: &mut Program, index: usize) -> Option<()> {
    let (a, b, y) = match &program.instructions[index] {
        Instruction::Add(sum) if sum.function.is_none() => (sum.a, sum.b, sum.y),
        _ => return None,
    };
    sole_reader(program, b)?;
    let (from, at) = (writer(program, a)?, writer(program, b)?);
    // A residual lies as the result does.
    let alike = program[a].slice.is_none() && program.shape(a) == program.shape(y);
    let earlier = at >= program.backward && from < at;
    match &mut program.instructions[at] {
        Instruction::ConvolutionBackwardInput(call)
            if earlier
                && alike
                && call.residual.is_none()
                && call.layer.kernel.adds_residual_to_gradient() =>
        {
            (call.residual, call.dx) = (Some(a), y);
            Some(())
        }
        _ => None,
    }
}

/// The instruction that writes one of two operands which nobody else reads, if it is as `wanted`; and the other
/// operand.
fn sole_writer(
    program: &Program,
    [a, b]: [ValueId; 2],
    wanted: impl Fn(&Instruction) -> bool,
) -> Option<(usize, ValueId)> {
    let takes = |operand: ValueId| {
        sole_reader(program, operand)?;
        writer(program, operand).filter(|&at| wanted(&program.instructions[at]))
    };
    takes(a).map(|at| (at, b)).or_else(|| takes(b).map(|at| (at, a)))
}

/// In training, only a ReLU: the gradient passes it by a mask.
fn function_into_batch_norm(program: &mut Program, index: usize, mode: Mode) -> Option<()> {
    let (function, x, y) = fusible(program, index, mode)?;
    let masks = mode != Mode::Train || function.activation() == Some(Activation::Relu);
    match sole_source(program, x)? {
        Instruction::BatchNorm(norm) if norm.is_plain() && masks => {
            (norm.y, norm.function) = (y, Fused::new(&function));
            Some(())
        }
        _ => None,
    }
}

fn function_into_convolution(program: &mut Program, index: usize, mode: Mode) -> Option<()> {
    let (function, x, y) = fusible(program, index, mode)?;
    match sole_source(program, x)? {
        Instruction::Convolution(call) if call.function.is_none() => {
            (call.y, call.function) = (y, Fused::new(&function));
            Some(())
        }
        _ => None,
    }
}

fn depthwise_into_convolution(
    program: &mut Program,
    index: usize,
    batch: usize,
    threads: usize,
) -> Option<()> {
    let (depthwise, x, None, between) = stage(&program.instructions[index])? else { return None };
    let reader = sole_reader(program, between)?;
    let (pointwise, pointwise_x, residual, y) = stage(&program.instructions[reader])?;
    let stages = [depthwise, pointwise];
    let pays = separable(&stages)?.pays(batch, threads);
    (pays && pointwise_x == between).then(|| {
        let call = separable::Forward { stages, x, residual, y };
        program.instructions[reader] = Instruction::SeparableConvolution(call);
    })
}

/// A convolution by direct summation as a stage, with its x, residual and y, unless it is held to an algorithm.
fn stage(instruction: &Instruction) -> Option<(Stage, ValueId, Option<ValueId>, ValueId)> {
    let Instruction::Convolution(call) = instruction else { return None };
    let convolution::Forward { layer, folded, x, residual, y, function, algorithm, .. } = call;
    let direct = algorithm.winograd().is_none() && layer.kernel.held(Pass::Forward).is_none();
    direct.then(|| {
        let (layer, folded, function) = (Arc::clone(layer), folded.clone(), function.clone());
        (Stage { layer, folded, function }, *x, *residual, *y)
    })
}

/// The instruction at `index`, if it is a function: that, its operand and its result.
fn function(program: &Program, index: usize) -> Option<(Arc<dyn Function>, ValueId, ValueId)> {
    match &program.instructions[index] {
        Instruction::Function(call) => Some((Arc::clone(&call.function), call.x, call.y)),
        _ => None,
    }
}

/// As [`function`], if a kernel can compute it while it writes the operand, which then is nowhere: in training,
/// the derivative must follow from the result.
fn fusible(program: &Program, index: usize, mode: Mode) -> Option<(Arc<dyn Function>, ValueId, ValueId)> {
    let found = function(program, index)?;
    let (function, ..) = &found;
    function.activation()?;
    (mode != Mode::Train || function.derivative() == Derivative::Result).then_some(found)
}

/// The instruction that reads `value`, if there is one only and the caller does not read it.
fn sole_reader(program: &Program, value: ValueId) -> Option<usize> {
    let root = program.root(value);
    let mut readers = Vec::new();
    for (index, instruction) in program.instructions.iter().enumerate() {
        let operands = instruction.operands();
        let read = operands.reads().filter(|operand| program.root(operand.value) == root);
        readers.extend(read.map(|operand| (index, operand.value)));
    }
    let is_result = program.results.iter().any(|&result| program.root(result) == root);
    match readers[..] {
        [(index, operand)] if operand == value && !is_result => Some(index),
        _ => None,
    }
}

/// The instruction that writes `value`.
fn writer(program: &Program, value: ValueId) -> Option<usize> {
    program
        .instructions
        .iter()
        .position(|instruction| instruction.operands().writes().any(|operand| operand.value == value))
}

/// The instruction that writes `value`, if one only reads it.
fn sole_source(program: &mut Program, value: ValueId) -> Option<&mut Instruction> {
    sole_reader(program, value)?;
    let at = writer(program, value)?;
    Some(&mut program.instructions[at])
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::network::Network;
    use crate::plan::{Plan, PlanOptions};
    use crate::program::Mode;
    use crate::session::Precision;
    use crate::session::{Session, SessionOptions};
    use crate::testing::{
        activated, batch_norm, chain, connected, conv, dense, graph, grouped, join, lenet5, max_pool, mixed,
        node, op, random_graph, residual_block, residuals_of_own_input, varied,
    };
    use crate::train::StepOptions;
    use fovea_kernels::Isa;
    use fovea_reference::check::{relative_error, uniform, widen};
    use serde_json::{Value, json};

    fn instructions(graph: &str, mode: Mode, fuse: bool) -> Vec<&'static str> {
        let network = Network::new(Graph::from_json(graph).unwrap(), Isa::available()[0]).unwrap();
        let plan = Plan::compile(
            &network,
            PlanOptions { mode, batch: 2, threads: 1, fuse, precision: Precision::Fast },
        )
        .unwrap();
        plan.program.instructions.iter().map(|instruction| instruction.name()).collect()
    }

    #[test]
    fn every_relu_of_lenet5_joins_its_neighbour() {
        let forward = instructions(&lenet5(), Mode::Infer, true);
        assert_eq!(forward, ["conv", "maxPool", "conv", "maxPool", "dense", "dense", "dense"]);
        let unfused = instructions(&lenet5(), Mode::Infer, false);
        assert_eq!(unfused.iter().filter(|&&name| name == "relu").count(), 4);
        let training = instructions(&lenet5(), Mode::Train, true);
        // Masks of their own remain for the two dense layers that end in a ReLU.
        assert_eq!(training.iter().filter(|&&name| name == "reluBackward").count(), 2);
    }

    #[test]
    fn a_relu_whose_operand_is_needed_elsewhere_stays() {
        // The pool's result is the output itself, so the ReLU before it may move but not the one on the side.
        let graph = chain([4, 4, 1], &[conv(2, [1, 1]), max_pool(2), op("relu"), op("tanh")]);
        assert_eq!(instructions(&graph, Mode::Infer, true), ["conv", "maxPool", "tanh"]);
        let twice = graph.replace(r#""inputs":["node2"]"#, r#""inputs":["node1"]"#);
        let twice = twice.replace(r#""outputs":["#, r#""outputs":[{"node":"node2","lossWeight":1},"#);
        let network = Network::new(Graph::from_json(&twice).unwrap(), Isa::available()[0]).unwrap();
        let mut program = crate::lower::lower(&network, Mode::Infer).unwrap();
        let relu = program.instructions.iter().position(|instruction| instruction.name() == "relu").unwrap();
        program.results.push(super::function(&program, relu).unwrap().1);
        super::fuse(&mut program, Mode::Infer);
        assert!(program.instructions.iter().any(|instruction| instruction.name() == "relu"));
    }

    /// A stem, a residual block and a classifier.
    fn residual() -> String {
        let mut nodes = vec![node("stem", "input", conv(3, [1, 1]))];
        nodes.extend(residual_block("block", "stem", 3));
        nodes.extend([node("flat", "block", op("flatten")), node("fc", "flat", dense(4))]);
        graph([4, 4, 2], nodes, &[("fc", 1.0)])
    }

    #[test]
    fn a_residual_block_trains_without_a_pass_for_its_sum_or_its_relus() {
        let dense = ["denseBackwardWeight", "denseBackwardInput"];
        let norm = ["batchNormBackwardWeight", "batchNormBackwardInput"];
        let conv = ["convBackwardWeight", "packGradientWeight", "convBackwardInput"];
        let mut expected =
            vec!["conv", "conv", "batchNorm", "conv", "batchNorm", "dense", "softmaxCrossEntropy"];
        for part in [&dense[..], &norm, &conv, &norm, &conv] {
            expected.extend(part);
        }
        // The gradient of the branch is added to that of the shortcut while it is computed.
        expected.extend(["convBackwardWeight", "checkGradients", "update"]);
        assert_eq!(instructions(&residual(), Mode::Train, true), expected);
    }

    #[test]
    fn outside_training_normalizations_become_part_of_the_convolutions() {
        assert_eq!(instructions(&residual(), Mode::Infer, true), ["conv", "conv", "conv", "dense"]);
        // Nothing stands before the first one, and the second's convolution is read elsewhere too.
        let nodes = vec![
            node("bn1", "input", batch_norm()),
            node("relu1", "bn1", op("relu")),
            node("conv", "relu1", conv(2, [1, 1])),
            node("bn2", "conv", batch_norm()),
            node("relu2", "bn2", op("relu")),
            join("sum", &["conv", "relu2"], "add"),
        ];
        let graph = graph([4, 4, 2], nodes, &[("sum", 1.0)]);
        assert_eq!(instructions(&graph, Mode::Infer, true), ["batchNorm", "conv", "batchNorm", "add"]);
    }

    #[test]
    fn a_normalization_moves_behind_the_residual_that_it_takes_in() {
        let nodes = vec![
            node("conv", "input", conv(3, [1, 1])),
            node("bn", "conv", batch_norm()),
            node("shortcut", "input", conv(3, [1, 1])),
            node("tanh", "shortcut", op("tanh")),
            join("sum", &["bn", "tanh"], "add"),
            node("relu", "sum", op("relu")),
            node("flat", "relu", op("flatten")),
            node("fc", "flat", dense(4)),
        ];
        let graph = graph([4, 4, 2], nodes, &[("fc", 1.0)]);
        let training = instructions(&graph, Mode::Train, true);
        assert_eq!(training[..5], ["conv", "conv", "tanh", "batchNorm", "dense"]);
    }

    #[test]
    fn functions_that_kernels_compute_on_the_way_take_no_pass_of_their_own() {
        let names = ["relu6", "clip", "leakyRelu", "hardSwish", "silu", "gelu"];
        for (definition, name) in activated().iter().zip(names) {
            let inferring = instructions(definition, Mode::Infer, true);
            assert!(!inferring.contains(&name) && inferring.contains(&"separableConv"), "{inferring:?}");
            // In training, the derivative must follow from the result.
            let alone = instructions(definition, Mode::Train, true).iter().filter(|&&it| it == name).count();
            let of_result = ["relu6", "clip", "leakyRelu"].contains(&name);
            assert_eq!(alone, if of_result { 1 } else { 6 }, "{name}");
        }
    }

    #[test]
    fn fused_and_unfused_programs_train_alike_and_without_norms_to_the_same_bits_on_every_instruction_set() {
        let between = [
            conv(9, [3, 3]),
            op("relu"),
            max_pool(2),
            conv(20, [1, 1]),
            max_pool(2),
            op("relu"),
            op("flatten"),
            dense(7),
            op("relu"),
            dense(4),
        ];
        let graphs = [lenet5(), chain([10, 9, 3], &between), residual(), mixed(), varied(), connected()];
        let graphs = graphs.into_iter().chain([grouped()]).chain(residuals_of_own_input()).chain(activated());
        let graphs = graphs.chain((0..40).map(random_graph));
        for (definition, isa) in
            graphs.flat_map(|graph| Isa::available().into_iter().map(move |isa| (graph.clone(), isa)))
        {
            let train = |fuse: bool| {
                let options =
                    SessionOptions { threads: Some(2), isa: Some(isa), seed: 3, ..Default::default() };
                let mut session = Session::new(Graph::from_json(&definition).unwrap(), options).unwrap();
                session.fuse = fuse;
                for step in 0..3 {
                    let images = uniform(step, 5 * session.image_len());
                    session.train_step(&images, &[0, 3, 1, 2, 2], &StepOptions::default()).unwrap();
                }
                let mut output = vec![0.0; 5 * session.output_len()];
                session.predict(&uniform(9, 5 * session.image_len()), 5, &mut output).unwrap();
                (session.weights(), output)
            };
            let [(weights, output), (expected_weights, expected)] = [true, false].map(train);
            // Statistics are summed in another order in the registers, and a normalization that moves behind
            // its residual may change the order in which gradients are added.
            let ordered = !definition.contains("batchNorm");
            for (tensor, expected) in weights.iter().zip(&expected_weights) {
                let pairs = tensor.values.iter().zip(&expected.values);
                let error = pairs.map(|(value, expected)| (value - expected).abs()).fold(0.0, f32::max);
                // What a bias before a normalization learns is rounding.
                let largest = expected.values.iter().fold(0.01f32, |largest, value| largest.max(value.abs()));
                let tolerance = if ordered { 0.0 } else { 1e-4 * largest };
                assert!(error <= tolerance, "{} {} {error:e} {definition}", isa.name(), tensor.name);
            }
            // Folding a batch normalization rounds differently.
            let error = relative_error(&output, &widen(&expected));
            let tolerance = if definition.contains("batchNorm") { 1e-5 } else { 0.0 };
            assert!(error <= tolerance, "{} {error:e} {definition}", isa.name());
        }
    }

    /// A depthwise convolution, a 1 x 1 convolution, and what follows each of them.
    fn separable(name: &str, input: &str, channels: usize, filters: usize) -> Vec<Value> {
        let step = |suffix: &str| format!("{name}.{suffix}");
        let mut depthwise = conv(channels, [3, 3]);
        (depthwise["groups"], depthwise["padding"]) = (json!(channels), json!("same"));
        vec![
            node(&step("depthwise"), input, depthwise),
            node(&step("bn1"), &step("depthwise"), batch_norm()),
            node(&step("relu1"), &step("bn1"), op("relu")),
            node(&step("pointwise"), &step("relu1"), conv(filters, [1, 1])),
            node(name, &step("pointwise"), batch_norm()),
        ]
    }

    #[test]
    fn a_depthwise_convolution_and_the_product_that_alone_reads_it_become_one() {
        // The second takes in a shortcut from before the first; the third its own x, whose place the result may
        // not take; the last has more filters than pixels to share their weights.
        let mut nodes = separable("one", "input", 8, 8);
        nodes.extend(separable("two", "one", 8, 8));
        nodes.push(join("sum", &["two", "input"], "add"));
        nodes.extend(separable("three", "sum", 8, 8));
        nodes.push(join("own", &["three", "sum"], "add"));
        nodes.extend(separable("four", "own", 8, 300));
        nodes.push(node("mean", "four", op("globalAvgPool")));
        let definition = graph([9, 7, 8], nodes, &[("mean", 1.0)]);
        let expected = ["separableConv", "separableConv", "separableConv", "conv", "conv", "avgPool"];
        assert_eq!(instructions(&definition, Mode::Infer, true), expected);
        assert!(!instructions(&definition, Mode::Train, true).contains(&"separableConv"));
        for isa in Isa::available() {
            let predict = |held: &[&str]| {
                let algorithms = held.iter().map(|&layer| (layer.to_owned(), "direct".to_owned())).collect();
                let options =
                    SessionOptions { threads: Some(2), isa: Some(isa), algorithms, ..Default::default() };
                let mut session = Session::new(Graph::from_json(&definition).unwrap(), options).unwrap();
                let mut output = vec![0.0; 2 * session.output_len()];
                session.predict(&uniform(9, 2 * session.image_len()), 2, &mut output).unwrap();
                (session.explain(Mode::Infer, 2, false).unwrap(), output)
            };
            let (joined, output) = predict(&[]);
            let (apart, expected) = predict(&["one.depthwise", "two.pointwise.forward"]);
            assert_eq!((joined.rows.len(), apart.rows.len()), (6, 8));
            assert_eq!(joined.flops, apart.flops);
            assert_eq!(joined.rows[1].name, "two.depthwise + two.pointwise");
            assert!(output == expected, "{}", isa.name());
        }
    }
}
