"""Who is in a picture and where: detectors, keypoint and depth networks; no fitting, no meshes."""
