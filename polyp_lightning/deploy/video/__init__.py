"""From a video's frames to the same video with contours, as fast as it comes."""
