"""Cut videos for `data_tools.cut_clips`: one video, its scenes, its speech and the square around the face."""
