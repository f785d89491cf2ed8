"""What a clip shows and what is said in it, for `data_tools.caption_clips`: from models, recognisers and files."""
