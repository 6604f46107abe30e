"""Text about videos: conversations, how a chat template lays them out around the video, and batches of token ids."""
