"""The step of any module traced: by layer, as a timeline, exported."""
