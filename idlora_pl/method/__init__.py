"""The method of the paper in plain torch: tokens, positions, flow, guidance, sampling."""
