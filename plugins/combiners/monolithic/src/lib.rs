//! Combiner: the whole model as one package.
