"""How good is a fused image: metrics, baselines, data sets, and the evaluation itself."""
