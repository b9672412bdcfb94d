"""A plain rospy node, without anything of ours but this file: sends back what it hears, until its input ends."""

import os
import sys

sys.path.append("/usr/lib/python3/dist-packages")
import rospy
from sensor_msgs.msg import Image, JointState

os.environ.setdefault("ROS_IP", "127.0.0.1")
rospy.init_node("echo", anonymous=True, disable_signals=True, disable_rosout=True)
for there, back, kind in (("/joints", "/joints_back", JointState), ("/image", "/image_back", Image)):
    out = rospy.Publisher(back, kind, queue_size=5000, tcp_nodelay=True)
    rospy.Subscriber(there, kind, out.publish, queue_size=5000, tcp_nodelay=True)
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.read()
