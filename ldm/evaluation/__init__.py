"""Figures of reconstructions and samples, each under the name of the features it was really measured with."""
