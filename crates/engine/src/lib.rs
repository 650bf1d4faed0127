//! Graph, shapes, autodiff, plan, steps; parameters, optimizer state, checkpoints.
