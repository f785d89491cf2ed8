"""Audio and video files in and out; the only place that imports PyAV."""
