//! Whole graphs against a second implementation in f64: outputs, losses, and gradients by finite differences.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{
    activated, batch_norm, chain, connected, conv, conv_transpose, dense, dropout, graph, grouped, join,
    judged, leaky_relu, local_response_norm, max_pool, mixed, node, op, pad, random_graph, residual_block,
    residuals_of_own_input, varied,
};
use common::oracle::{Oracle, Purposes};
use common::{batch, oracle, randomize_vectors, session};
use fovea_engine::{Graph, StepOptions, Targets};
use fovea_kernels::Isa;
use fovea_reference::check::{dot, relative_error, uniform, widen};
use fovea_reference::loss as reference;
use serde_json::{Value, json};

const IMAGES: usize = 3;
const CLASSES: u32 = 4;

/// Random directions in which each tensor is moved: an error in a gradient shows in nearly every one.
const DIRECTIONS: u64 = 3;

/// How the outputs of a network are judged.
#[derive(Clone, Default)]
struct Judgement {
    label_smoothing: f32,
    /// Instead of labels.
    values: Option<Vec<f32>>,
    class_weights: Option<Vec<f32>>,
}

/// Compares the loss and the gradient of every tensor with the oracle's, on every instruction set.
fn check(definition: &str, label_smoothing: f32) {
    check_judged(definition, &Judgement { label_smoothing, ..Judgement::default() });
}

fn check_judged(definition: &str, judgement: &Judgement) {
    let graph = Graph::from_json(definition).unwrap();
    let label_smoothing = judgement.label_smoothing;
    let class_weights = judgement.class_weights.as_deref();
    let mut expected: Option<(f64, Vec<[f64; DIRECTIONS as usize]>)> = None;
    for isa in Isa::available() {
        let mut session = session(definition, 2, isa);
        randomize_vectors(&mut session);
        let (images, labels) = batch(&session, IMAGES, CLASSES, 5);
        let (expected_loss, slopes) = expected.get_or_insert_with(|| {
            let weights = oracle::wide(&session.weights());
            let purpose = Purposes::Training { seed: session.seed(), step: 0 };
            let (values, wide_weights) = (judgement.values.as_deref().map(widen), class_weights.map(widen));
            let targets = match &values {
                Some(values) => reference::Targets::Values(values),
                None => reference::Targets::Labels(&labels),
            };
            let loss = |weights: &[(String, Vec<f64>)]| {
                let oracle = Oracle { graph: &graph, weights, purpose };
                let smoothing = f64::from(label_smoothing);
                oracle.loss_by(&widen(&images), targets, smoothing, wide_weights.as_deref())
            };
            let slope = |tensor: usize, number: u64| {
                let direction = direction(weights[tensor].1.len(), number);
                let moved = |step: f64| {
                    let mut weights = weights.clone();
                    weights[tensor].1.iter_mut().zip(&direction).for_each(|(value, by)| *value += step * by);
                    loss(&weights)
                };
                (moved(1e-6) - moved(-1e-6)) / 2e-6
            };
            let slopes =
                (0..session.parameters().len()).map(|tensor| [0, 1, 2].map(|number| slope(tensor, number)));
            (loss(&weights), slopes.collect())
        });
        let options =
            StepOptions { learning_rate: 0.0, label_smoothing, class_weights, ..StepOptions::default() };
        let targets = judgement.values.as_deref().map_or(Targets::Labels(&labels), Targets::Values);
        let result = session.train_step(&images, targets, &options).unwrap();
        let difference = (f64::from(result.loss) - *expected_loss).abs() / *expected_loss;
        assert!(difference < 2e-6, "{}: loss {} instead of {expected_loss}", isa.name(), result.loss);
        let gradients = session.gradients();
        let norms = gradients.iter().map(|tensor| widen(&tensor.values)).map(|g| dot(&g, &g).sqrt());
        let largest = norms.fold(0.0, f64::max);
        // Batch normalization divides rounding errors by the deviation of a few values.
        let tolerance = if definition.contains("batchNorm") { 2e-4 } else { 2e-5 };
        for (tensor, slopes) in gradients.iter().zip(slopes) {
            let gradient = widen(&tensor.values);
            // A bias before a batch normalization has no gradient but what rounding leaves of others.
            let norm = dot(&gradient, &gradient).sqrt().max(1e-2 * largest);
            for (number, &slope) in slopes.iter().enumerate() {
                let direction = direction(gradient.len(), number as u64);
                let error = (dot(&gradient, &direction) - slope).abs();
                let scale = norm * dot(&direction, &direction).sqrt();
                let (isa, name) = (isa.name(), &tensor.name);
                assert!(
                    error <= tolerance * scale + 1e-9,
                    "{isa}: {name} is wrong by {error:e} of {scale}\n{definition}"
                );
            }
        }
    }
}

fn direction(len: usize, number: u64) -> Vec<f64> {
    widen(&uniform(77 + number, len))
}

fn with(mut op: Value, options: Value) -> Value {
    for (key, value) in options.as_object().unwrap() {
        op[key] = value.clone();
    }
    op
}

#[test]
fn stride_padding_dilation_and_groups_of_convolutions() {
    let ops = [
        with(conv(6, [3, 2]), json!({"stride": [2, 1], "padding": [1, 0, 2, 1], "dilation": [1, 2]})),
        op("relu"),
        with(conv(4, [3, 3]), json!({"padding": "same", "groups": 2, "bias": false})),
        op("tanh"),
        with(conv(5, [2, 3]), json!({"stride": [1, 2], "padding": "same", "dilation": [2, 1]})),
        op("flatten"),
        dense(CLASSES as usize),
    ];
    check(&chain([7, 6, 4], &ops), 0.0);
}

#[test]
fn fused_and_unfused_relus_around_pools_with_padding_and_ceil_mode() {
    let ops = [
        with(conv(5, [3, 3]), json!({"padding": "same"})),
        op("relu"),
        with(max_pool(3), json!({"stride": [2, 2], "padding": [1, 1, 1, 1], "ceilMode": true})),
        with(conv(7, [3, 3]), json!({"padding": "same"})),
        max_pool(2),
        op("relu"),
        with(
            max_pool(2),
            json!({"op": "avgPool", "stride": [1, 1], "padding": [0, 1, 1, 0], "countIncludePad": false}),
        ),
        op("relu"),
        op("flatten"),
        op("tanh"),
        with(dense(6), json!({"bias": false, "init": "xavier"})),
        op("relu"),
        dense(CLASSES as usize),
    ];
    check(&chain([9, 8, 2], &ops), 0.1);
}

#[test]
fn a_value_read_by_several_nodes_and_outputs_has_the_sum_of_their_gradients() {
    let nodes = vec![
        node("c", "input", with(conv(4, [3, 3]), json!({"padding": "same"}))),
        node("r", "c", op("relu")),
        node("t", "c", op("tanh")),
        node("p", "c", max_pool(2)),
        node("pr", "p", op("relu")),
        node("rp", "r", max_pool(2)),
        node("fr", "rp", op("flatten")),
        node("ft", "t", op("flatten")),
        node("fp", "pr", op("flatten")),
        node("fc", "c", op("flatten")),
        node("hidden", "ft", dense(CLASSES as usize)), // an output that is read as well
        node("deep", "hidden", op("tanh")),
        node("out1", "deep", dense(CLASSES as usize)),
        node("out2", "fr", dense(CLASSES as usize)),
        node("out3", "fp", dense(CLASSES as usize)),
        node("out4", "fc", dense(CLASSES as usize)),
    ];
    let outputs = [("out1", 1.0), ("hidden", 0.3), ("out2", 0.5), ("out3", 2.0), ("out4", 0.0)];
    check(&graph([4, 4, 2], nodes, &outputs), 0.0);
}

#[test]
fn stride_padding_dilation_and_groups_of_transposed_convolutions() {
    let ops = [
        with(
            conv_transpose(6, [3, 2], [2, 3]),
            json!({"padding": [1, 0, 2, 1], "dilation": [1, 2], "outputPadding": [1, 2]}),
        ),
        op("relu"),
        with(conv_transpose(4, [3, 3], [1, 1]), json!({"padding": "same", "groups": 2, "bias": false})),
        op("tanh"),
        // Depthwise, and with gaps that no tap reaches.
        with(conv_transpose(4, [2, 2], [3, 2]), json!({"groups": 4, "outputPadding": [2, 0]})),
        with(conv_transpose(5, [4, 3], [2, 2]), json!({"padding": "same", "dilation": [2, 1]})),
        max_pool(2),
        op("flatten"),
        dense(CLASSES as usize),
    ];
    check(&chain([3, 2, 4], &ops), 0.0);
    // One pixel to many, as generators begin.
    let ops = [op("flatten"), conv_transpose(8, [3, 4], [1, 1]), op("relu"), op("flatten"), dense(4)];
    check(&chain([1, 1, 6], &ops), 0.0);
}

#[test]
fn weights_of_channels_that_a_filter_does_not_see_are_zero_and_stay_zero() {
    let absent = |weights: &[fovea_engine::NamedTensor]| {
        let weight = weights.iter().find(|tensor| tensor.name == "node4.weight").unwrap();
        assert_eq!(weight.shape, [5, 3, 3, 2]);
        let of = |filter: usize, channel: usize| weight.values[(filter * 3 + channel) * 6..][..6].to_vec();
        assert!(of(0, 0).iter().chain(&of(3, 2)).all(|&value| value != 0.0));
        [(0, 2), (1, 0), (1, 1), (3, 0), (4, 1), (4, 2)].map(|(filter, channel)| of(filter, channel)).concat()
    };
    for isa in Isa::available() {
        let mut session = session(&connected(), 2, isa);
        assert!(absent(&session.weights()).iter().all(|&value| value == 0.0));
        // What a file has there is not read.
        let mut weights = session.weights();
        weights.iter_mut().for_each(|tensor| tensor.values.iter_mut().for_each(|value| *value += 0.125));
        common::load(&mut session, &weights);
        assert!(absent(&session.weights()).iter().all(|&value| value == 0.0));
        let (images, labels) = batch(&session, 4, CLASSES, 5);
        let before = session.weights();
        for _ in 0..3 {
            let options = StepOptions { learning_rate: 0.01, weight_decay: 0.1, ..StepOptions::default() };
            session.train_step(&images, &labels, &options).unwrap();
        }
        assert_ne!(session.weights(), before);
        assert!(absent(&session.weights()).iter().all(|&value| value == 0.0));
        assert!(absent(&session.gradients()).iter().all(|&value| value == 0.0));
    }
    let shapes = Graph::from_json(&connected()).unwrap().shapes().unwrap();
    let (node, connections) = (&shapes.nodes[4], 2 + 1 + 3 + 2 + 1);
    assert_eq!(node.parameters, connections * 3 * 2 + 5);
    assert_eq!(node.mult_adds, 4 * 6 * connections * 3 * 2);
}

#[test]
fn layers_before_the_first_parameter_need_no_gradient() {
    let nodes = vec![
        node("relu", "input", op("relu")),
        node("pool", "relu", max_pool(2)),
        node("tanh", "pool", op("tanh")),
        node("flat", "tanh", op("flatten")),
        node("fc", "flat", dense(CLASSES as usize)),
        node("plain", "input", op("flatten")),
        node("other", "plain", dense(CLASSES as usize)),
    ];
    check(&graph([4, 6, 3], nodes, &[("fc", 1.0), ("other", 1.0)]), 0.0);
}

#[test]
fn one_layer_of_every_kind() {
    for definition in [mixed(), varied(), connected()] {
        check(&definition, 0.1);
    }
}

#[test]
fn residual_blocks_share_a_gradient_between_the_branch_and_the_shortcut() {
    // The map before the blocks is read by two of them and by a sum with itself.
    let mut nodes = vec![node("stem", "input", with(conv(5, [3, 3]), json!({"padding": "same"})))];
    nodes.extend(residual_block("a", "stem", 5));
    nodes.extend(residual_block("b", "stem", 5));
    nodes.extend([
        join("sum", &["a", "b"], "add"),
        join("twice", &["stem", "stem"], "add"),
        node("bn", "twice", batch_norm()),
        join("all", &["sum", "bn"], "add"), // the normalization takes its residual from the left
        join("self", &["all", "sum"], "add"),
        node("flat", "self", op("flatten")),
        node("fc", "flat", dense(CLASSES as usize)),
    ]);
    check(&graph([4, 5, 2], nodes, &[("fc", 1.0)]), 0.0);
}

#[test]
fn concatenations_of_branches_of_each_other_of_images_and_of_flattened_maps() {
    let nodes = vec![
        node("a", "input", with(conv(3, [3, 3]), json!({"padding": "same"}))),
        node("b", "input", with(conv(4, [1, 1]), json!({}))),
        node("br", "b", op("relu")),
        join("ab", &["a", "br"], "concat"),
        node("c", "ab", with(conv(5, [3, 3]), json!({"padding": "same"}))),
        // As in dense networks: what was joined is joined again, and a branch is read beside it.
        join("abc", &["ab", "input", "c", "a"], "concat"),
        node("d", "a", op("tanh")),
        join("again", &["a", "d", "abc", "d"], "concat"),
        node("pool", "again", max_pool(2)),
        node("bn", "pool", batch_norm()),
        node("drop", "bn", dropout(0.3)),
        node("flat", "drop", op("flatten")),
        node("flat.bn", "flat", batch_norm()),
        node("flat.d", "d", op("flatten")),
        node("mean", "ab", op("globalAvgPool")),
        join("row", &["mean", "flat.bn", "flat.d", "mean"], "concat"),
        node("row.bn", "row", batch_norm()),
        node("row.pad", "row.bn", pad([0; 4], [2, 1])),
        node("row.leaky", "row.pad", leaky_relu(0.2)),
        node("fc", "row.leaky", dense(CLASSES as usize)),
    ];
    check(&graph([4, 4, 2], nodes, &[("fc", 1.0)]), 0.0);
}

#[test]
fn normalizations_and_activations_in_a_row() {
    let ops = [
        with(conv(6, [3, 3]), json!({"padding": "same"})),
        batch_norm(),
        local_response_norm(5),
        op("relu6"),
        pad([1, 0, 2, 1], [1, 2]),
        with(conv(9, [3, 3]), json!({"padding": "same", "groups": 9})),
        batch_norm(),
        op("relu"),
        max_pool(2),
        batch_norm(),
        op("sigmoid"),
        local_response_norm(2),
        dropout(0.5),
        leaky_relu(0.3),
        op("globalAvgPool"),
        batch_norm(),
        op("flatten"),
        dense(CLASSES as usize),
    ];
    check(&chain([6, 7, 2], &ops), 0.0);
}

#[test]
fn groups_of_an_image_and_the_channels_of_a_pixel_are_normalized_by_themselves() {
    check(&grouped(), 0.0);
}

#[test]
fn every_loss_with_labels_values_and_class_weights() {
    let losses = [
        json!({"kind": "crossEntropy"}),
        json!({"kind": "maximumAPosteriori", "rejection": 0.1}),
        json!({"kind": "binaryCrossEntropy"}),
        json!({"kind": "meanSquaredError"}),
    ];
    let shares: Vec<f32> = uniform(3, IMAGES * CLASSES as usize).iter().map(|share| share.abs()).collect();
    for loss in losses {
        let nodes = vec![
            node("conv", "input", conv(3, [2, 2])),
            node("flat", "conv", op("flatten")),
            node("a", "flat", dense(CLASSES as usize)),
            node("b", "flat", dense(CLASSES as usize)),
        ];
        let entropy = json!({"kind": "crossEntropy"});
        let definition = judged([4, 3, 2], nodes, &[("a", 1.0, loss), ("b", 0.3, entropy)]);
        for values in [None, Some(shares.clone())] {
            for class_weights in [None, Some(vec![0.5, 2.0, 0.0, 1.5])] {
                let judgement = Judgement { label_smoothing: 0.1, values: values.clone(), class_weights };
                check_judged(&definition, &judgement);
            }
        }
    }
}

#[test]
fn a_feature_map_learns_values_of_its_own_shape() {
    let nodes = vec![
        node("conv", "input", with(conv(5, [3, 3]), json!({"padding": "same"}))),
        node("tanh", "conv", op("tanh")),
        node("map", "tanh", conv(2, [1, 1])),
    ];
    for kind in ["meanSquaredError", "binaryCrossEntropy"] {
        let definition = judged([4, 3, 2], nodes.clone(), &[("map", 1.0, json!({"kind": kind}))]);
        let values = uniform(4, IMAGES * 4 * 3 * 2);
        check_judged(&definition, &Judgement { values: Some(values), ..Judgement::default() });
    }
}

#[test]
fn what_is_added_to_a_convolution_may_be_what_it_reads() {
    for definition in residuals_of_own_input() {
        check(&definition, 0.0);
    }
}

#[test]
fn functions_behind_layers_that_compute_them_on_the_way() {
    for definition in activated() {
        check(&definition, 0.0);
    }
}

#[test]
fn random_graphs() {
    for seed in 0..40 {
        check(&random_graph(seed), 0.05);
    }
}

#[test]
fn predictions_use_running_statistics_folded_or_not_and_no_dropout() {
    let definitions = [mixed(), varied(), connected(), grouped()].into_iter().chain(residuals_of_own_input());
    let definitions = definitions.chain(activated());
    let definitions = definitions.chain((0..40).map(random_graph));
    for (definition, isa) in definitions
        .flat_map(|definition| Isa::available().into_iter().map(move |isa| (definition.clone(), isa)))
    {
        let graph = Graph::from_json(&definition).unwrap();
        let mut session = session(&definition, 2, isa);
        for seed in 0..2 {
            randomize_vectors(&mut session);
            // A step changes the statistics and the weights, so that nothing kept from the first round may be
            // used.
            let (images, labels) = batch(&session, IMAGES, CLASSES, seed);
            session.train_step(&images, &labels, &StepOptions::default()).unwrap();
            let weights = oracle::wide(&session.weights());
            let oracle = Oracle { graph: &graph, weights: &weights, purpose: Purposes::Inference };
            let expected = &oracle.forward(&widen(&images), IMAGES)[&graph.outputs[0].node];
            let mut output = vec![f32::NAN; IMAGES * session.output_len()];
            session.predict(&images, IMAGES, &mut output).unwrap();
            let error = relative_error(&output, &expected.values);
            assert!(error < 1e-5, "{}: wrong by {error:e}\n{definition}", isa.name());
            let mut predictions = [0; IMAGES];
            let evaluation = session.evaluate_batch(&images, &labels, &mut predictions).unwrap();
            let logits = fovea_reference::loss::softmax_cross_entropy(&expected.values, &labels, 4, 0.0);
            let loss = IMAGES as f64 * logits.mean();
            assert!(
                (evaluation.loss_sum - loss).abs() < 1e-5 * loss.max(10.0),
                "{}\n{definition}",
                isa.name()
            );
        }
    }
}

#[test]
fn predictions_equal_the_oracle_for_any_count_on_every_instruction_set() {
    let ops = [
        with(conv(5, [3, 3]), json!({"padding": "same"})),
        op("relu"),
        max_pool(2),
        op("flatten"),
        dense(7),
        op("softmax"),
    ];
    let definition = chain([6, 6, 1], &ops);
    let graph = Graph::from_json(&definition).unwrap();
    for isa in Isa::available() {
        let mut session = session(&definition, 2, isa);
        let weights = oracle::wide(&session.weights());
        let oracle = Oracle { graph: &graph, weights: &weights, purpose: Purposes::Inference };
        for count in [0, 1, 3, 256, 300] {
            let (images, _) = batch(&session, count, CLASSES, 9);
            let mut output = vec![f32::NAN; count * session.output_len()];
            session.predict(&images, count, &mut output).unwrap();
            let expected = oracle.forward(&widen(&images), count);
            assert!(relative_error(&output, &expected["node5"].values) < 2e-6);
        }
    }
}

#[test]
fn a_graph_may_end_in_a_feature_map_and_even_in_its_input() {
    let definition = chain([3, 3, 2], &[with(conv(4, [2, 2]), json!({}))]);
    let mut session = common::fastest(&definition);
    let (images, _) = batch(&session, 2, CLASSES, 1);
    let mut output = vec![0.0; 2 * 2 * 2 * 4];
    session.predict(&images, 2, &mut output).unwrap();
    assert!(output.iter().all(|&value| value != 0.0));

    let mut session = common::fastest(&chain([3, 3, 1], &[op("flatten")]));
    let mut output = vec![0.0; 18];
    session.predict(&images[..18], 2, &mut output).unwrap();
    assert_eq!(output, images[..18]);
}

#[test]
fn a_flattened_map_at_the_end_counts_channel_by_channel_in_training_evaluation_and_prediction() {
    let flat = vec![node("map", "input", conv(2, [2, 2])), node("flat", "map", op("flatten"))];
    let mut joined = flat.clone();
    joined.extend([
        node("mean", "map", op("globalAvgPool")),
        node("bent", "flat", op("tanh")),
        join("out", &["mean", "bent"], "concat"),
    ]);
    // With a labelled class as with values for every element, as a first output and as another.
    let entropy = json!({"kind": "crossEntropy"});
    let square = json!({"kind": "meanSquaredError"});
    for (nodes, outputs) in [
        (flat.clone(), vec![("flat", 1.0, entropy.clone())]),
        (flat, vec![("flat", 1.0, square.clone())]),
        (joined.clone(), vec![("out", 1.0, entropy.clone())]),
        (joined, vec![("out", 0.5, square.clone()), ("bent", 1.0, square)]),
    ] {
        let definition = judged([4, 3, 2], nodes, &outputs);
        let last = outputs.last().unwrap().0;
        if outputs.iter().all(|(_, _, loss)| *loss == entropy) {
            check(&definition, 0.1);
        } else if outputs.len() == 1 {
            let values = Some(uniform(4, IMAGES * 12));
            check_judged(&definition, &Judgement { values, ..Judgement::default() });
        }
        let graph = Graph::from_json(&definition).unwrap();
        for isa in Isa::available() {
            let mut session = session(&definition, 2, isa);
            let (images, labels) = batch(&session, IMAGES, CLASSES, 5);
            let weights = oracle::wide(&session.weights());
            let oracle = Oracle { graph: &graph, weights: &weights, purpose: Purposes::Inference };
            let maps = oracle.forward(&widen(&images), IMAGES);
            let expected = &maps[&graph.outputs[0].node].values;
            let mut output = vec![f32::NAN; IMAGES * session.output_len()];
            session.predict(&images, IMAGES, &mut output).unwrap();
            assert!(relative_error(&output, expected) < 1e-5, "{last}");
            let mut predictions = [0; IMAGES];
            let evaluation = session.evaluate_batch(&images, &labels, &mut predictions);
            if graph.outputs[0].loss == fovea_engine::OutputLoss::default() {
                let classes = output.len() / IMAGES;
                let loss = reference::softmax_cross_entropy(expected, &labels, classes, 0.0);
                let loss = IMAGES as f64 * loss.mean();
                assert!((evaluation.unwrap().loss_sum - loss).abs() < 1e-5 * loss, "{last}");
            }
        }
    }
}

#[test]
fn evaluation_counts_what_the_oracle_counts() {
    let definition = chain([5, 5, 2], &[op("flatten"), dense(9)]);
    let graph = Graph::from_json(&definition).unwrap();
    let mut session = common::fastest(&definition);
    let (images, labels) = batch(&session, 50, 9, 3);
    let mut predictions = vec![0; 50];
    let evaluation = session.evaluate_batch(&images, &labels, &mut predictions).unwrap();
    let weights = oracle::wide(&session.weights());
    let oracle = Oracle { graph: &graph, weights: &weights, purpose: Purposes::Inference };
    let maps = oracle.forward(&widen(&images), 50);
    let (mut correct, mut top5) = (0, 0);
    for ((row, &label), &prediction) in maps["node1"].values.chunks_exact(9).zip(&labels).zip(&predictions) {
        let rank = row.iter().filter(|&&value| value > row[label as usize]).count();
        correct += u32::from(rank == 0);
        top5 += u32::from(rank < 5);
        assert!(row.iter().all(|&value| value <= row[prediction as usize]));
    }
    assert_eq!((evaluation.correct, evaluation.top5), (correct, top5));
    let expected = 50.0 * oracle.loss(&widen(&images), &labels, 0.0);
    assert!((evaluation.loss_sum - expected).abs() < 1e-5 * expected);
}
