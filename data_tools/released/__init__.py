"""The authors' preprocessed data: found, read, checked, planned and packed for `data_tools.import_released`."""
