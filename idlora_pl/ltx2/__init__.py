"""Everything that knows a pretrained network: transformer, adapters, codecs, text, schedule."""
